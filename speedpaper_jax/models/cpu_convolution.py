"""Convolution on CPUs: as matrix products where maps are small, with other gradients where large.

XLA's CPU back end runs its matrix product two to three times as fast as its convolution, and the
gradients of a kernel slower than either.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Values an image. It would pay from half as many on, but then small images, of 75 pixels and less,
# would be computed in other bits.
_LARGE = 100_000
# Multiply-adds an image. It would pay from fewer on, with the same reservation.
_MANY = 35_000_000


def is_large(shape: Sequence[int]) -> bool:
  """Whether a map, [N, H, W, C], has so many values that other forms than the plain ones pay."""
  return math.prod(shape[1:]) >= _LARGE


def conv(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: Any,
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: Any = None,
  feature_group_count: int = 1,
  batch_group_count: int = 1,
  precision: Any = None,
  preferred_element_type: Any = None,
) -> jax.Array:
  """`lax.conv_general_dilated`, as one matrix product for 1×1 kernels and for small maps.

  Where a map is smaller than its kernel, as in most of BN-Inception at 32 pixels, the back end
  swaps the two, and takes up to a hundred times as long. Where there is much to multiply, the
  gradient of a kernel is added up image by image.
  """
  convolve = functools.partial(
    lax.conv_general_dilated,
    window_strides=window_strides,
    padding=padding,
    lhs_dilation=lhs_dilation,
    rhs_dilation=rhs_dilation,
    dimension_numbers=dimension_numbers,
    feature_group_count=feature_group_count,
    batch_group_count=batch_group_count,
    precision=precision,
    preferred_element_type=preferred_element_type,
  )
  dilation = max(*(lhs_dilation or (1, 1)), *(rhs_dilation or (1, 1)))
  if not dilation == feature_group_count == batch_group_count == 1:
    return convolve(lhs, rhs)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
  axes = zip(lhs.shape[1:3], rhs.shape[:2], window_strides, padding, strict=True)
  rows, columns = (_Axis(*each) for each in axes)
  multiply = functools.partial(
    jnp.einsum,
    "...i,io->...o",
    precision=precision,
    preferred_element_type=preferred_element_type,
  )
  if rows.is_pointwise and columns.is_pointwise:
    x = lhs
    if is_large(lhs.shape):  # as a matrix, whose gradient needs no transposed copy of `x`
      x = lhs.reshape(-1, lhs.shape[-1])
    return multiply(x, rhs[0, 0]).reshape(*lhs.shape[:-1], rhs.shape[-1])
  if rows.outputs * columns.outputs == 0:
    return convolve(lhs, rhs)
  if rows.is_short or columns.is_short:
    return multiply(_patches(lhs, rows, columns), _taps(rhs, rows, columns))
  if rows.outputs * columns.outputs * rhs.size < _MANY:
    return convolve(lhs, rhs)

  def convolve_padded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """As one more row of zeros, which the back end takes a third of the time with."""
    return convolve(x, kernel, padding=((0, 1), (0, 0)))[:, : rows.outputs]

  forward = convolve if any((*rows.pads, *columns.pads)) else convolve_padded
  of_image = functools.partial(_kernel_gradient, rows=rows, columns=columns, precision=precision)
  return _with_gradient_by_images(forward, convolve, of_image, lhs, rhs)


def _with_gradient_by_images(
  forward: Callable[[jax.Array, jax.Array], jax.Array],
  convolve: Callable[[jax.Array, jax.Array], jax.Array],
  of_image: Callable[[jax.Array, jax.Array], jax.Array],
  x: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  """A convolution whose kernel's gradient is the sum of those of the images.

  The back end's own takes two to six times as long; what the kernel sees of one image stays in the
  cache.

  Args:
    forward: the convolution of `x` and `kernel`.
    convolve: the same, in the form whose gradient of `x` is taken.
    of_image: the kernel's gradient of one image [H, W, C] and its output's [H', W', out], at least
      float32, in which they are added up.
    x: [N, H, W, C].
    kernel: [height, width, C, out].
  """

  @functools.partial(jax.checkpoint, prevent_cse=False)  # x is kept, and not what is seen of it
  def of_row(x: jax.Array, row: jax.Array, d_y: jax.Array) -> jax.Array:
    return of_image(lax.dynamic_index_in_dim(x, row, keepdims=False), d_y)

  def kernel_gradient(x: jax.Array, d_y: jax.Array) -> jax.Array:
    def add(total: jax.Array, image: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
      return total + of_row(x, *image), None

    rows = jnp.arange(x.shape[0])  # of a loop over x itself a copy of x would be kept
    zeros = jnp.zeros(kernel.shape, jnp.promote_types(x.dtype, jnp.float32))
    return lax.scan(add, zeros, (rows, d_y))[0].astype(kernel.dtype)

  @jax.custom_jvp
  def by_images(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return forward(x, kernel)

  @functools.partial(by_images.defjvp, symbolic_zeros=True)
  def jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (d_x, d_kernel) = primals, tangents
    y = by_images(x, kernel)
    d_y = jnp.zeros_like(y)
    if not isinstance(d_x, jax.custom_derivatives.SymbolicZero):
      d_y += convolve(d_x, kernel)
    if not isinstance(d_kernel, jax.custom_derivatives.SymbolicZero):
      # What is transposed here, reverse mode transposes back.
      (of_kernel,) = jax.linear_transpose(functools.partial(kernel_gradient, x), y)(d_kernel)
      d_y += of_kernel
    return y, d_y

  return by_images(x, kernel)


class _Axis(NamedTuple):
  """A convolution along the rows or the columns of a map."""

  size: int
  window: int
  stride: int
  pads: tuple[int, int]

  @property
  def outputs(self) -> int:
    return max((self.size + sum(self.pads) - self.window) // self.stride + 1, 0)

  def seen_by(self, tap: int) -> slice:
    """What a tap of the kernel sees of the padded axis, one value an output."""
    return slice(tap, tap + (self.outputs - 1) * self.stride + 1, self.stride)

  def taps(self) -> list[int]:
    """Those that see more than padding; one, if there is none, which sees zeros."""
    padded = range(-self.pads[0], self.size + self.pads[1])
    seen = [padded[self.seen_by(tap)] for tap in range(self.window)]
    return [tap for tap, at in enumerate(seen) if any(0 <= i < self.size for i in at)] or [0]

  @property
  def is_pointwise(self) -> bool:
    """Whether each output sees the input at its own place, and that alone."""
    return self.window == 1 and self.outputs == self.size

  @property
  def is_short(self) -> bool:
    """Whether there are fewer outputs than the kernel is long."""
    return self.outputs < self.window


def _patches(x: jax.Array, rows: _Axis, columns: _Axis) -> jax.Array:
  """What the taps of a kernel see: [N, H, W, C] → [N, H', W', taps · C].

  Taps that see nothing but padding are left out: of 3×3 on a 1×1 map one is left.
  """
  x = jnp.pad(x, [(0, 0), rows.pads, columns.pads, (0, 0)])
  taps = itertools.product(rows.taps(), columns.taps())
  seen = [x[:, rows.seen_by(row), columns.seen_by(column)] for row, column in taps]
  return jnp.concatenate(seen, -1)


def _taps(kernel: jax.Array, rows: _Axis, columns: _Axis) -> jax.Array:
  """The weights that `_patches` are multiplied with: [taps · C, out]."""
  taps = itertools.product(rows.taps(), columns.taps())
  return jnp.concatenate([kernel[row, column] for row, column in taps])


def _kernel_gradient(
  x: jax.Array, d_y: jax.Array, rows: _Axis, columns: _Axis, precision: Any
) -> jax.Array:
  """Of one image, one product for each row of the kernel: [H, W, C] → [height, width, C, out].

  At least float32, whatever the dtype of the image.

  Args:
    x: [H, W, C].
    d_y: the gradient of the output, [H', W', out].
    rows: of the convolution.
    columns: of the convolution.
    precision: of the products.
  """
  x = jnp.pad(x, [rows.pads, columns.pads, (0, 0)])
  d_y = d_y.astype(x.dtype).reshape(-1, d_y.shape[-1])
  multiply = functools.partial(
    jnp.einsum,
    "pi,po->io",
    precision=precision,
    preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
  )
  gradients = []
  for row in range(rows.window):
    seen = [x[rows.seen_by(row), columns.seen_by(column)] for column in range(columns.window)]
    of_row = jnp.concatenate(seen, -1).reshape(d_y.shape[0], -1)
    gradients.append(multiply(of_row, d_y))
  return jnp.stack(gradients).reshape(rows.window, columns.window, x.shape[-1], d_y.shape[-1])
