"""Inputs whose features never vanish, so that ε = 0 divides by no zero."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from speedpaper_jax.explanations import inputs


@pytest.mark.parametrize("examples", [2, 3, 4, 20])
def test_every_feature_varies(examples):
  for seed in range(50):
    drawn = inputs.draw(examples, seed, 0.0)
    assert drawn.mini_batches.std(1).min() >= 0.05 - 1e-9  # tenths, all different
    assert (drawn.u @ drawn.weights.T).std(0).min() >= 0.2 - 1e-9
    assert drawn.targets.min() > 0


def test_whitening_has_too_few_examples_and_enough():
  drawn = inputs.draw(4, 0, 0.0)
  assert drawn.wide.shape == (4, 6)
  assert drawn.long.shape == (24, 6)


def test_the_seed_decides():
  first, again, other = (inputs.draw(4, seed, 0.0) for seed in (0, 0, 1))
  assert_array_equal(first.x, again.x)
  assert np.any(first.x != other.x)
