"""The convolutions, matrix products and pools of a traced network, in the order of the program.

Images are [N, H, W, C], kernels [height, width, in / groups, out], as in `models.ops`.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp

from speedpaper_jax.models import ops

_POOLS = {"reduce_window_max": "max", "reduce_window_sum": "avg"}


class Operation(NamedTuple):
  """One of them.

  Attributes:
    kind: "conv", "depthwise" (a filter sees one channel), "dense", "max" or "avg" (pools).
    path: the names of the Flax modules it lies in, without the network's own.
    window: height and width of the kernel or the pool; (1, 1) for "dense".
    strides: in both directions.
    channels: of the input.
    output: shape, the batch included.
    multiply_adds: for the whole batch; 0 for pools.
  """

  kind: str
  path: tuple[str, ...]
  window: tuple[int, ...]
  strides: int
  channels: int
  output: tuple[int, ...]
  multiply_adds: int

  @property
  def activations(self) -> int:
    """Number of values that a convolution or a matrix product gives; 0 for pools."""
    return 0 if self.kind in _POOLS.values() else math.prod(self.output)


def find(program: jax.extend.core.ClosedJaxpr) -> list[Operation]:
  """All operations of a network's `apply`, those of functions that it calls included."""
  return list(_find(program.jaxpr))


def training_flops(network: nn.Module, image_size: int) -> int:
  """Floating-point operations that a step needs for one image, whatever form it is computed in.

  Two for each multiply-add of the forward pass, and twice as many again for the gradients of maps
  and of kernels.

  Args:
    network: of `models.registry`.
    image_size: pixels.
  """
  settings = dataclasses.replace(network.settings, operations=ops.PLAIN, axis_name=None)
  plain = network.clone(settings=settings)
  image = jax.ShapeDtypeStruct((1, image_size, image_size, settings.channels), jnp.float32)

  def apply(image: jax.Array) -> jax.Array:
    collections = ["params", "batch_stats"]  # what is missing is initialised
    key = jax.random.key(0)
    return plain.apply({}, image, train=False, mutable=collections, rngs={"params": key})[0]

  return 6 * sum(operation.multiply_adds for operation in find(jax.make_jaxpr(apply)(image)))


def _find(jaxpr: jax.extend.core.Jaxpr) -> Iterator[Operation]:
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name == "conv_general_dilated":
      yield _convolution(equation)
    elif name == "dot_general":
      yield _matrix_product(equation)
    elif name in _POOLS and _shape(equation.outvars[0])[-1] > 1:
      # An average pool that leaves its padding out pools a map of ones besides, of one channel.
      yield _pool(equation)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from _find(inner)


def _convolution(equation: jax.extend.core.JaxprEqn) -> Operation:
  kernel = _shape(equation.invars[1])
  output = _shape(equation.outvars[0])
  groups = equation.params["feature_group_count"]
  return Operation(
    kind="depthwise" if groups > 1 else "conv",
    path=_path(equation),
    window=kernel[:2],
    strides=equation.params["window_strides"][0],
    channels=kernel[2] * groups,
    output=output,
    multiply_adds=math.prod(output) * math.prod(kernel[:-1]),
  )


def _matrix_product(equation: jax.extend.core.JaxprEqn) -> Operation:
  ((contracted, _), _) = equation.params["dimension_numbers"]
  shape = _shape(equation.invars[0])
  output = _shape(equation.outvars[0])
  channels = math.prod(shape[axis] for axis in contracted)
  return Operation(
    "dense", _path(equation), (1, 1), 1, channels, output, math.prod(output) * channels
  )


def _pool(equation: jax.extend.core.JaxprEqn) -> Operation:
  output = _shape(equation.outvars[0])
  return Operation(
    kind=_POOLS[equation.primitive.name],
    path=_path(equation),
    window=equation.params["window_dimensions"][1:3],
    strides=equation.params["window_strides"][1],
    channels=output[-1],
    output=output,
    multiply_adds=0,
  )


def _path(equation: jax.extend.core.JaxprEqn) -> tuple[str, ...]:
  return tuple(str(equation.source_info.name_stack).split("/")[1:])


def _shape(variable: Any) -> tuple[int, ...]:
  return variable.aval.shape
