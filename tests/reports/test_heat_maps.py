"""Maps of numbers by layer and step."""

import matplotlib.figure
import numpy as np
import pytest

from speedpaper_jax.reports import heat_maps
from speedpaper_jax.reports.heat_maps import Quantity

STEPS = np.array([10, 20, 30, 40])


class TestLogarithmicScale:
  def test_spans_all_arrays(self):
    scale = heat_maps.logarithmic_scale([np.array([[0.01, 0.5]]), np.array([[0.001, 0.2]])])
    assert (scale.vmin, scale.vmax) == (0.001, 0.5)

  def test_has_five_decades_at_most(self):
    scale = heat_maps.logarithmic_scale([np.array([1.0, 1e-9])])
    assert (scale.vmin, scale.vmax) == (1e-5, 1.0)
    assert scale(1e-9) == scale(0.0) == 0

  def test_leaves_out_what_is_not_finite(self):
    scale = heat_maps.logarithmic_scale([np.array([np.inf, 0.5]), np.array([np.nan, 0.1])])
    assert (scale.vmin, scale.vmax) == (0.1, 0.5)


class TestSignedScale:
  def test_is_symmetrical(self):
    scale = heat_maps.signed_scale([np.array([-3.0, 1.0]), np.array([0.5, np.inf])])
    assert (scale.vmin, scale.vmax) == (-3, 3)


@pytest.mark.parametrize("value", [0.0, np.nan, 2.0])
@pytest.mark.parametrize("scale", [heat_maps.signed_scale, heat_maps.logarithmic_scale])
def test_a_scale_of_one_value_is_not_empty(scale, value):
  made = scale([np.array([value])])
  assert made.vmin < made.vmax


def quantity(without, with_batch_norm, scale=heat_maps.logarithmic_scale):
  values = {"without": without, "with": with_batch_norm}
  return Quantity("drift", values, scale(values.values()))


def painted(*quantities, steps=STEPS):
  figure = matplotlib.figure.Figure()
  heat_maps.paint(figure, quantities, steps, {0: "conv", 2: "3a"})
  figure.canvas.draw()
  return figure


class TestPaint:
  VALUES = np.arange(1.0, 13).reshape(4, 3)  # [steps, layers]

  def test_a_row_for_each_network_and_a_colour_bar_for_each_quantity(self):
    figure = painted(
      quantity(self.VALUES, self.VALUES),
      quantity(self.VALUES, -self.VALUES, heat_maps.signed_scale),
    )
    assert len(figure.axes) == 2 * 2 + 2
    assert figure.axes[0].get_ylabel() == "without BN"
    assert figure.axes[2].get_ylabel() == "with BN"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["conv", "3a"]

  def test_the_first_layer_is_at_the_top(self):
    bottom, top = painted(quantity(self.VALUES, self.VALUES)).axes[0].get_ylim()
    assert (bottom, top) == (2.5, -0.5)

  def test_cells_lie_around_their_steps(self):
    assert painted(quantity(self.VALUES, self.VALUES)).axes[0].get_xlim() == (5, 45)

  def test_one_step(self):
    assert painted(quantity(self.VALUES[:1], self.VALUES[:1]), steps=STEPS[:1]).axes

  def test_what_is_not_finite_stays_empty(self):
    broken = np.where(self.VALUES > 6, np.nan, self.VALUES)
    mesh = painted(quantity(broken, self.VALUES)).axes[0].collections[0]
    assert np.ma.count_masked(mesh.get_array()) == 6
