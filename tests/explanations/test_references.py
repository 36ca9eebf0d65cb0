"""JAX, this package's layer and PyTorch compute what the equations do."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from packages import require

from speedpaper_jax.explanations import batch_norm, inputs, references

TORCH = "PyTorch"


@pytest.mark.parametrize("epsilon", [0, 1e-3])
@pytest.mark.parametrize("examples", [2, 5])
def test_all_of_them_in_float64(examples, epsilon):
  require()
  drawn = inputs.draw(examples, seed=7, epsilon=epsilon)
  y = batch_norm.transform(drawn.x, drawn.scale, drawn.bias, epsilon).y
  gradients = batch_norm.gradients(drawn.d_y, drawn.x, drawn.scale, epsilon)
  values = references.all_values(drawn)
  assert [len(arrays) for arrays in values.values()] == [7, 4, 4]
  for arrays in values.values():
    for name, array in arrays.items():
      assert array.dtype == np.float64
      expected = y if name == "y" else getattr(gradients, name)
      assert_allclose(array, expected, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("epsilon", "ending"), [(1e-5, ""), (0, ", its ε 1e-30")])
def test_the_name_tells_pytorchs_version_and_its_epsilon(epsilon, ending):
  require()
  import torch

  (name,) = (
    name for name in references.all_values(inputs.draw(2, 0, epsilon)) if name.startswith(TORCH)
  )
  assert name == f"{TORCH} {torch.__version__.split('+')[0]}{ending}"


def test_without_pytorch(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
  assert list(references.all_values(inputs.draw(2, 0, 1e-3))) == [
    "JAX's automatic differentiation",
    "models/batch_norm.py",
  ]


def test_inference_uses_the_statistics_of_all_mini_batches():
  drawn = inputs.draw(4, seed=1, epsilon=1e-3)
  result = references.inference_by_this_package(drawn)
  assert_allclose(result["mean"], drawn.mini_batches.mean((0, 1)), rtol=1e-12)
  assert_allclose(result["var"], drawn.mini_batches.var(1, ddof=1).mean(0), rtol=1e-12)
  x_hat = (drawn.x - result["mean"]) / np.sqrt(result["var"] + 1e-3)
  assert_allclose(result["y"], drawn.scale * x_hat + drawn.bias, rtol=1e-12)


def test_jacobians_give_the_change_of_the_layers_output():
  drawn = inputs.draw(4, seed=2, epsilon=1e-3)
  result = references.layer_and_jacobians(drawn, 3.0)
  step = np.random.default_rng(0).normal(size=drawn.weights.shape)

  def layer(weights):
    return batch_norm.transform(drawn.u @ weights.T, drawn.scale, drawn.bias, 0.0).y

  assert_allclose(result["y"], layer(3 * drawn.weights), rtol=1e-12, atol=1e-12)
  forward, back = (layer(3 * drawn.weights + sign * 1e-6 * step) for sign in (1, -1))
  expected = (forward - back) / 2e-6
  assert_allclose(np.tensordot(result["d_weights"], step, 2), expected, atol=1e-7)
  assert result["d_u"].shape == (4, 2, 4, 3)
