"""Batch normalization by JAX's differentiation, by this package's layer and by PyTorch, in float64.

Results are named as in `batch_norm.Transform` and `batch_norm.Gradients`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from speedpaper_jax.explanations.inputs import Inputs
from speedpaper_jax.models.batch_norm import (
  BatchNorm,
  normalize,
  recompute_population_statistics,
)

Arrays = dict[str, np.ndarray]

# PyTorch takes none of zero. Added to the variance of tenths, it does not change a bit.
_SMALLEST_EPSILON_OF_TORCH = 1e-30


def all_values(inputs: Inputs) -> dict[str, Arrays]:
  """What each reference computes, by its name; PyTorch only where it is installed."""
  values = {
    "JAX's automatic differentiation": by_automatic_differentiation(inputs),
    "models/batch_norm.py": by_this_package(inputs),
  }
  try:
    import torch
  except ImportError:
    return values
  name = f"PyTorch {torch.__version__.partition('+')[0]}"
  if inputs.epsilon < _SMALLEST_EPSILON_OF_TORCH:
    name += f", its ε {_SMALLEST_EPSILON_OF_TORCH:g}"
  return {**values, name: by_torch(inputs)}


def by_automatic_differentiation(inputs: Inputs) -> Arrays:
  """Y and all six gradients, of Algorithm 1 in jnp."""
  with jax.enable_x64(True):
    return _to_numpy(
      _differentiate(inputs.x, inputs.scale, inputs.bias, inputs.d_y, inputs.epsilon)
    )


@jax.jit
def _differentiate(
  x: jax.Array, scale: jax.Array, bias: jax.Array, d_y: jax.Array, epsilon: float
) -> dict[str, jax.Array]:
  # The gradient with respect to a zero added to a value in between is that of the value.
  at = {"d_mean": jnp.zeros_like(scale), "d_variance": jnp.zeros_like(scale)}
  at["d_x_hat"] = jnp.zeros_like(x)

  def transform(
    x: jax.Array, scale: jax.Array, bias: jax.Array, at: dict[str, jax.Array]
  ) -> jax.Array:
    mean = jnp.mean(x, 0) + at["d_mean"]
    variance = jnp.mean((x - mean) ** 2, 0) + at["d_variance"]
    x_hat = (x - mean) / jnp.sqrt(variance + epsilon) + at["d_x_hat"]
    return scale * x_hat + bias

  y, pull_back = jax.vjp(transform, x, scale, bias, at)
  d_x, d_scale, d_bias, d_at = pull_back(d_y)
  return {"y": y, "d_x": d_x, "d_scale": d_scale, "d_bias": d_bias, **d_at}


def by_this_package(inputs: Inputs) -> Arrays:
  """Y and the gradients of x, γ and β, of `models.batch_norm.normalize`."""
  with jax.enable_x64(True):
    return _to_numpy(
      _normalize_and_back(inputs.x, inputs.scale, inputs.bias, inputs.d_y, inputs.epsilon)
    )


@functools.partial(jax.jit, static_argnames="epsilon")
def _normalize_and_back(
  x: jax.Array, scale: jax.Array, bias: jax.Array, d_y: jax.Array, epsilon: float
) -> dict[str, jax.Array]:
  def transform(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return normalize(x[None], scale, bias, epsilon, False, None)[0][0]

  y, pull_back = jax.vjp(transform, x, scale, bias)
  return {"y": y, **dict(zip(("d_x", "d_scale", "d_bias"), pull_back(d_y), strict=True))}


def by_torch(inputs: Inputs) -> Arrays:
  """Y and the gradients of x, γ and β, of `torch.nn.functional.batch_norm`."""
  import torch

  x, scale, bias = (
    torch.tensor(values, requires_grad=True) for values in (inputs.x, inputs.scale, inputs.bias)
  )
  epsilon = max(inputs.epsilon, _SMALLEST_EPSILON_OF_TORCH)
  y = torch.nn.functional.batch_norm(x, None, None, scale, bias, training=True, eps=epsilon)
  gradients = torch.autograd.grad(y, (x, scale, bias), torch.tensor(inputs.d_y))
  names = ("y", "d_x", "d_scale", "d_bias")
  arrays = (y.detach(), *gradients)
  return {name: array.numpy() for name, array in zip(names, arrays, strict=True)}


def inference_by_this_package(inputs: Inputs) -> Arrays:
  """`mean` and `var` of Algorithm 2, and with them `y` of the first mini-batch."""
  module = BatchNorm(epsilon=inputs.epsilon)
  params = {"scale": inputs.scale, "bias": inputs.bias}

  @jax.jit
  def infer(x: jax.Array, mini_batches: jax.Array) -> dict[str, jax.Array]:
    start = {"mean": jnp.zeros_like(inputs.scale), "var": jnp.ones_like(inputs.scale)}

    def batch_moments(x: jax.Array) -> dict[str, jax.Array]:
      variables: dict[str, dict[str, Any]] = {"params": params, "batch_stats": start}
      return module.apply(variables, x, train=True, mutable=["batch_moments"])[1]["batch_moments"]

    statistics = recompute_population_statistics(batch_moments, mini_batches)
    y = module.apply({"params": params, "batch_stats": statistics}, x, train=False)
    return {**statistics, "y": y}

  with jax.enable_x64(True):
    return _to_numpy(infer(inputs.x, inputs.mini_batches))


def layer_and_jacobians(inputs: Inputs, factor: float) -> Arrays:
  """BN((aW)u) by `models.batch_norm.normalize` with ε = 0, and how it changes with u and aW.

  Args:
    inputs: u, W, γ and β are read.
    factor: a.

  Returns:
    `y`, [m, C]; `d_u`, [m, C, m, 3]; `d_weights`, [m, C, C, 3].
  """
  with jax.enable_x64(True):
    return _to_numpy(
      _layer_and_jacobians(inputs.u, factor * inputs.weights, inputs.scale, inputs.bias)
    )


@jax.jit
def _layer_and_jacobians(
  u: jax.Array, weights: jax.Array, scale: jax.Array, bias: jax.Array
) -> dict[str, jax.Array]:
  def layer(u: jax.Array, weights: jax.Array) -> jax.Array:
    return normalize((u @ weights.T)[None], scale, bias, 0.0, False, None)[0][0]

  d_u, d_weights = jax.jacrev(layer, (0, 1))(u, weights)
  return {"y": layer(u, weights), "d_u": d_u, "d_weights": d_weights}


def _to_numpy(arrays: dict[str, jax.Array]) -> Arrays:
  return {name: np.asarray(array) for name, array in arrays.items()}
