"""Distributions by layer and time."""

import matplotlib.figure
import numpy as np
import pytest

from speedpaper_jax.reports import ridgelines

EDGES = np.linspace(0, 4, 5)


class TestRidge:
  def test_is_the_root_of_the_share(self):
    values = np.array([0.5] + [1.5] * 4 + [9.0] * 95)
    np.testing.assert_allclose(ridgelines.ridge(values, EDGES), [0.2, 0.4, 0, 0])

  def test_is_cut(self):
    np.testing.assert_allclose(ridgelines.ridge(np.full(8, 2.5), EDGES), [0, 0, 1, 0])

  def test_counts_what_is_not_finite_in_no_bin(self):
    values = np.array([0.5, np.nan, np.inf, -np.inf] * 25)
    np.testing.assert_allclose(ridgelines.ridge(values, EDGES), [1, 0, 0, 0])


class TestSpan:
  def test_is_of_the_array_that_reaches_farther(self):
    low, high = ridgelines.span([np.linspace(-1, 1, 1001), np.linspace(0, 5, 1001)])
    assert (low, high) == pytest.approx((-1, 5), abs=0.25)

  def test_leaves_outliers_out(self):
    values = np.append(np.zeros(999), 1e6)
    assert ridgelines.span([values])[1] < 1000

  @pytest.mark.parametrize("values", [[3.0], [np.nan, np.inf]])
  def test_is_never_empty(self, values):
    low, high = ridgelines.span([np.array(values)])
    assert high - low == 1


def test_panels():
  figure = matplotlib.figure.Figure()
  values = np.random.default_rng(0).normal(size=(2, 3, 50))
  ridgelines.paint(
    figure,
    {"without": values, "with": values},
    times=[0, 7],
    layers=[1, 4, 8],
    time="epoch",
    value="input",
  )
  assert [axes.get_title(loc="center") for axes in figure.axes[:3]] == [
    "layer 1",
    "layer 4",
    "layer 8",
  ]
  assert len(figure.axes) == 6
  assert len({axes.get_xlim() for axes in figure.axes}) == 1
  assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "7"]
  assert figure.axes[3].get_ylabel() == "with BN\nepoch"
