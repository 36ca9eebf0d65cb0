"""Convolution, pooling and local response normalization: plain, for CPUs and for accelerators.

The forms have the same signature and agree up to the order of sums; parameters do not depend on
them. Images are [N, H, W, C], kernels [height, width, in / groups, out]. Padding is one of

  "SAME", "VALID"  in TensorFlow's sense; with stride 2 "SAME" puts the odd pixel at the end
  "CEIL"           none, but the last window may reach over the end: Caffe's and PyTorch's ceil mode
  a number         so many pixels on every side, PyTorch's
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from speedpaper_jax.models import cpu_convolution

Padding = str | int


class Operations(NamedTuple):
  """The operations that a network is built from, in one form.

  Attributes:
    conv: the signature of `lax.conv_general_dilated`, as `nn.Conv` calls it.
    separable_conv: (x, depthwise, pointwise, strides, padding) → depthwise, then 1×1 convolution.
    max_pool: (x, window, strides, padding) → maximum over windows.
    avg_pool: (x, window, strides, padding, count_padding) → mean over windows.
    reorders: (shape of an input, [N, H, W, C]) → whether layers are put in another order with the
      same outputs. 1×1 convolutions of one input are computed as one, with their kernels side by
      side. An average pool in front of one is computed after it: both are linear, and it has fewer
      outputs. A max pool behind a layer is computed before the layer's batch normalization and
      nonlinearity, which keep the order of values, and then have fewer of them.
    channels_at_once: that lie next to each other, whether a map has so many or not; see
      `packed_images`.
    dot_general: the signature of `lax.dot_general`, as `nn.Dense` calls it.
    promote_dtype: (inputs, *parameters, dtype) → the same as these take them; what a layer adds a
      bias to may come out wider, and is cast to the dtype again.
  """

  conv: Callable[..., jax.Array]
  separable_conv: Callable[[jax.Array, jax.Array, jax.Array, int, Padding], jax.Array]
  max_pool: Callable[[jax.Array, int, int, Padding], jax.Array]
  avg_pool: Callable[[jax.Array, int, int, Padding, bool], jax.Array]
  reorders: Callable[[Sequence[int]], bool] = lambda shape: False
  channels_at_once: int = 1
  dot_general: Callable[..., jax.Array] = lax.dot_general
  promote_dtype: Callable[..., list[Any]] = nn.dtypes.promote_dtype


def separable_conv(
  x: jax.Array, depthwise: jax.Array, pointwise: jax.Array, strides: int, padding: Padding
) -> jax.Array:
  """A depthwise convolution and a 1×1 convolution of its outputs, with nothing in between.

  Args:
    x: [N, H, W, C].
    depthwise: [height, width, 1, C · multiplier]; filter c · multiplier + m sees channel c alone.
    pointwise: [1, 1, C · multiplier, out].
    strides: of the first, in both directions.
    padding: of the first.

  Returns:
    [N, H', W', out].
  """
  x = _conv(x, depthwise, strides, padding, groups=x.shape[-1])
  return _conv(x, pointwise, 1, "VALID")


def _conv(
  x: jax.Array,
  kernel: jax.Array,
  strides: int,
  padding: Padding,
  groups: int = 1,
  conv: Callable[..., jax.Array] = lax.conv_general_dilated,
) -> jax.Array:
  return conv(
    x,
    kernel,
    (strides, strides),
    [pads_of(*sizes, strides, padding) for sizes in zip(x.shape[1:3], kernel.shape, strict=False)],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def max_pool(x: jax.Array, window: int, strides: int, padding: Padding) -> jax.Array:
  """Maximum over square windows: [N, H, W, C] → [N, H', W', C]."""
  pads = [pads_of(size, window, strides, padding) for size in x.shape[1:3]]
  return nn.max_pool(x, (window, window), (strides, strides), pads)


def avg_pool(
  x: jax.Array, window: int, strides: int, padding: Padding, count_padding: bool = False
) -> jax.Array:
  """Mean over square windows: [N, H, W, C] → [N, H', W', C].

  Args:
    x: [N, H, W, C].
    window: height and width.
    strides: in both directions.
    padding: see the top of this file.
    count_padding: whether zeros of the padding count as values of the map, as Caffe does and, by
      default, PyTorch; TensorFlow leaves them out.
  """
  pads = [pads_of(size, window, strides, padding) for size in x.shape[1:3]]
  return nn.avg_pool(x, (window, window), (strides, strides), pads, count_include_pad=count_padding)


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
  """PyTorch's: means over `size` × `size` windows that cover the map: [N, H, W, C] → [N, s, s, C].

  Along an axis of length n, window i reaches from ⌊i·n/size⌋ to ⌈(i+1)·n/size⌉.
  """
  for axis in (1, 2):
    length = x.shape[axis]
    windows = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    parts = [
      jnp.mean(lax.slice_in_dim(x, first, end, axis=axis), axis, keepdims=True)
      for first, end in windows
    ]
    x = jnp.concatenate(parts, axis)
  return x


def pads_of(size: int, window: int, strides: int, padding: Padding) -> tuple[int, int]:
  """Pixels before and after an axis of length `size`."""
  if isinstance(padding, int):
    return padding, padding
  if padding == "CEIL":
    steps = -(-(size - window) // strides)
    return 0, max(steps * strides + window - size, 0)
  ((before, after),) = lax.padtype_to_pads((size,), (window,), (strides,), padding)
  return before, after


def separable_conv_as_dense(
  x: jax.Array,
  depthwise: jax.Array,
  pointwise: jax.Array,
  strides: int,
  padding: Padding,
  conv: Callable[..., jax.Array] = lax.conv_general_dilated,
) -> jax.Array:
  """`separable_conv` as one dense convolution, whose kernel is the product of the two.

  It has more multiplications, but the CPU back end's grouped convolution takes over ten times as
  long, gradients included, and a TPU's gradient of the depthwise kernel longer than all of this.
  """
  height, width, _, filters = depthwise.shape
  channels = x.shape[-1]
  kernel = jnp.einsum(
    "hwcm,cmo->hwco",
    depthwise.reshape(height, width, channels, filters // channels),
    pointwise.reshape(channels, filters // channels, -1),
  )
  return _conv(x, kernel, strides, padding, conv=conv)


def max_pool_by_slices(x: jax.Array, window: int, strides: int, padding: Padding) -> jax.Array:
  """`max_pool` as the maximum of strided slices, first along the rows, then along the columns.

  The gradient of the CPU back end's window reduction takes four to ten times as long.
  """
  for axis in (1, 2):
    x = _reduce_slices(jnp.maximum, x, axis, window, strides, padding, -jnp.inf)
  return x


def avg_pool_by_slices(
  x: jax.Array, window: int, strides: int, padding: Padding, count_padding: bool = False
) -> jax.Array:
  """`avg_pool` as sums of strided slices."""
  ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
  for axis in (1, 2):
    x = _reduce_slices(jnp.add, x, axis, window, strides, padding, 0)
    ones = _reduce_slices(jnp.add, ones, axis, window, strides, padding, 0)
  return x / (window**2 if count_padding else ones)


def _reduce_slices(
  reduce: Callable[[jax.Array, jax.Array], jax.Array],
  x: jax.Array,
  axis: int,
  window: int,
  strides: int,
  padding: Padding,
  fill: float,
) -> jax.Array:
  """Reduces windows along one axis; `fill` is what the padding holds."""
  widths = [(0, 0)] * x.ndim
  widths[axis] = pads_of(x.shape[axis], window, strides, padding)
  x = jnp.pad(x, widths, constant_values=fill)
  size = (x.shape[axis] - window) // strides + 1
  if size < 1:  # no window fits: an empty map, as of `lax.reduce_window`
    return lax.slice_in_dim(x, 0, 0, axis=axis)
  result = None
  for offset in range(window):
    part = lax.slice_in_dim(x, offset, offset + (size - 1) * strides + 1, strides, axis)
    result = part if result is None else reduce(result, part)
  assert result is not None
  return result


def local_response_norm(
  x: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
  """Local response normalization across channels (Krizhevsky et al. 2012, section 3.3).

  x / (k + α/size · Σ x²)^β, the sum over `size` neighbouring channels. The papers give no
  constants; these are GoogLeNet's in Caffe.

  Args:
    x: [N, H, W, C].
    size: number of neighbouring channels, centred; missing ones count as zero.
    alpha: weight of the mean square.
    beta: exponent.
    k: added to the weighted mean square.

  Returns:
    Array with the shape and dtype of `x`.
  """
  squares = jnp.pad(jnp.square(x), [(0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2)])
  channels = x.shape[-1]
  total = sum(squares[..., i : i + channels] for i in range(size))
  return x * (k + alpha / size * total) ** -beta


PLAIN = Operations(lax.conv_general_dilated, separable_conv, max_pool, avg_pool)
CPU = Operations(
  cpu_convolution.conv,
  functools.partial(separable_conv_as_dense, conv=cpu_convolution.conv),
  max_pool_by_slices,
  avg_pool_by_slices,
  cpu_convolution.is_large,
)
ACCELERATOR = Operations(
  lax.conv_general_dilated,
  separable_conv_as_dense,
  max_pool,
  avg_pool,
  reorders=lambda shape: True,
)
TPU = ACCELERATOR._replace(channels_at_once=128)
# The gradient of XLA's own maximum pool scatters, on a GPU in no fixed order.
DETERMINISTIC_GPU = ACCELERATOR._replace(max_pool=max_pool_by_slices)


def for_platform(platform: str, deterministic: bool = False) -> Operations:
  """The form that is fastest on a platform.

  Args:
    platform: "cpu", "gpu" or "tpu".
    deterministic: whether XLA is told to give the same bits at every start.
  """
  if platform == "gpu" and deterministic:
    return DETERMINISTIC_GPU
  return {"cpu": CPU, "tpu": TPU}.get(platform, ACCELERATOR)
