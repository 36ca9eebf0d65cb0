"""One form of an operation against another."""

import jax
import numpy as np
from numpy.testing import assert_allclose


def assert_same_outputs_and_gradients(one, other, *inputs):
  """In float64, up to the order of sums."""
  with jax.enable_x64(True):
    y, vjp = jax.vjp(jax.jit(one), *inputs)
    y_other, vjp_other = jax.vjp(jax.jit(other), *inputs)
    assert_allclose(y, y_other, rtol=1e-12, atol=1e-12)
    d_y = np.random.default_rng(100).normal(size=y.shape)
    jax.tree.map(
      lambda a, b: assert_allclose(a, b, rtol=1e-12, atol=1e-12), vjp(d_y), vjp_other(d_y)
    )
