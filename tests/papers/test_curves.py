"""Reading a curve between the corners of its line."""

import numpy as np
import pytest

from speedpaper_jax.papers.curves import Curve


class TestCurve:
  CURVE = Curve(np.array([1000, 2000]), np.array([1.0, 3.0]))

  def test_between_its_corners(self):
    assert self.CURVE.at(1500) == 2

  @pytest.mark.parametrize(("step", "value"), [(990, 1), (2030, 3)])
  def test_a_little_beyond_its_ends(self, step, value):
    assert self.CURVE.at(step) == value

  @pytest.mark.parametrize("step", [950, 2050])
  def test_beyond_its_ends(self, step):
    assert self.CURVE.at(step) is None
