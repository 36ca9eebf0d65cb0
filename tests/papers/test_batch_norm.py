"""The curves and tables of the Batch Normalization paper, against readings and its text."""

import numpy as np
import pytest

from speedpaper_jax.papers import batch_norm

FIGURE_1A = {
  "without": {4000: 0.734, 10_000: 0.926, 20_000: 0.963, 40_000: 0.972},
  "with": {4000: 0.953, 10_000: 0.966, 20_000: 0.974, 40_000: 0.980, 49_000: 0.982},
}
FIGURE_1BC = {
  "without": {15: (0.47, -1.85), 50: (0.50, 0.01), 85: (0.53, 1.66)},
  "with": {15: (-1.32, -1.96), 50: (-0.09, -0.03), 85: (1.35, 1.96)},
}
# Figure 3: the text's numbers of steps to 72.2 %, in millions, and the highest accuracies.
FIGURE_3 = {"Inception": (31.0, 0.722), "BN-x5": (2.1, 0.730), "BN-x30": (2.7, 0.748)}


@pytest.mark.parametrize("network", FIGURE_1A)
def test_figure_1a(network):
  curve = batch_norm.figure_1a()[network]
  for step, accuracy in FIGURE_1A[network].items():
    assert curve.at(step) == pytest.approx(accuracy, abs=0.0015)


def test_figure_1a_with_batch_norm_is_above():
  curves = batch_norm.figure_1a()
  for step in range(5000, 44_000, 1000):
    assert curves["with"].at(step) > curves["without"].at(step)


@pytest.mark.parametrize("network", FIGURE_1BC)
def test_figure_1bc(network):
  curves = batch_norm.figure_1bc()[network]
  assert list(curves) == [15, 50, 85]
  for percentile, (early, late) in FIGURE_1BC[network].items():
    assert curves[percentile].at(1000) == pytest.approx(early, abs=0.02)
    assert curves[percentile].at(49_000) == pytest.approx(late, abs=0.1)


def test_figure_1bc_percentiles_are_in_order():
  for curves in batch_norm.figure_1bc().values():
    low, middle, high = (
      [curve.at(step) for step in range(300, 50_000, 100)] for curve in curves.values()
    )
    assert np.all(np.less_equal(low, middle))
    assert np.all(np.less_equal(middle, high))


def test_figure_2():
  curves = batch_norm.figure_2()
  assert list(curves) == ["Inception", "BN-Baseline", "BN-x5", "BN-x30", "BN-x5-Sigmoid"]
  for network, (_, highest) in FIGURE_3.items():
    assert np.max(curves[network].values) == pytest.approx(highest, abs=0.0025)
  for network in ("BN-x5", "BN-x30"):
    assert curves[network].at(1e6 * FIGURE_3[network][0]) == pytest.approx(0.722, abs=0.003)
  assert curves["Inception"].at(10e6) == pytest.approx(0.684, abs=0.002)


@pytest.mark.parametrize("figure", [batch_norm.figure_1a, batch_norm.figure_2])
def test_steps_rise_and_accuracies_are_fractions(figure):
  for curve in figure().values():
    assert np.all(np.diff(curve.positions) > 0)
    assert np.all((curve.values > 0.39) & (curve.values < 1))


def test_figure_4():
  """Six networks are better than one by 1.9 and 0.9 percentage points, with as many crops."""
  single, multicrop, ensemble = batch_norm.FIGURE_4.values()
  assert (single.crops, multicrop.crops, ensemble.crops) == (1, 144, 144)
  assert (single.models, multicrop.models, ensemble.models) == (1, 1, 6)
  assert multicrop.top1 - ensemble.top1 == pytest.approx(1.89)
  assert multicrop.top5 - ensemble.top5 == pytest.approx(0.92)
  # One crop's accuracy is Figure 3's best.
  assert 100 - single.top1 == pytest.approx(100 * batch_norm.FIGURE_3["bn_x30"].max_top1)
