"""Gradients of parameters in float32, where a network computes in bfloat16.

A layer that is given its kernel in bfloat16 gives the kernel's gradient back in bfloat16. Under
`jit` over a batch that is split among devices the compiler sums it right behind the product that
gives it, and so in bfloat16, too, before it reaches the float32 of the parameter.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models.ops import Operations


@functools.cache  # equal networks stay equal
def with_float32_gradients(operations: Operations) -> Operations:
  """A form of the operations whose parameters get their gradients in float32, or wider.

  It gives what the other gives, and takes parameters as they are: kernels are rounded to the
  inputs' dtype within, biases are added in their own.
  """
  return operations._replace(
    conv=_of_kernels(operations.conv, 1),
    separable_conv=_of_kernels(operations.separable_conv, 2),
    dot_general=_of_kernels(operations.dot_general, 1),
    promote_dtype=_inputs_alone,
  )


def _inputs_alone(
  *inputs_and_parameters: jax.Array | None, dtype: Any = None, inexact: bool = True
) -> list[jax.Array | None]:
  inputs, *parameters = inputs_and_parameters
  return [*nn.dtypes.promote_dtype(inputs, dtype=dtype, inexact=inexact), *parameters]


def _of_kernels(product: Callable[..., jax.Array], kernels: int) -> Callable[..., jax.Array]:
  """The same product of x and so many kernels, which come next; the rest says how."""

  def of_wide_kernels(x: jax.Array, *others: Any, **named: Any) -> jax.Array:
    of_arrays = _with_wide_gradients(lambda x, *k: product(x, *k, *others[kernels:], **named))
    return of_arrays(x, *others[:kernels])

  return of_wide_kernels


def _with_wide_gradients(product: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  @jax.custom_vjp
  def rounded(x: jax.Array, *kernels: jax.Array) -> jax.Array:
    return product(x, *(kernel.astype(x.dtype) for kernel in kernels))

  def forward(x: jax.Array, *kernels: jax.Array) -> tuple[jax.Array, tuple[Any, ...]]:
    return rounded(x, *kernels), (x, kernels)

  def backward(residuals: tuple[Any, ...], d_y: jax.Array) -> tuple[jax.Array, ...]:
    x, kernels = residuals
    narrow = [kernel.astype(x.dtype) for kernel in kernels]
    (d_x,) = jax.vjp(lambda x: product(x, *narrow), x)[1](d_y)
    # Nothing is lost or won by widening the factors, and a TPU takes them as they were: it is for
    # the product's own dtype.
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    of_kernels = functools.partial(product, x.astype(dtype))
    wide = [kernel.astype(dtype) for kernel in narrow]
    gradients = jax.vjp(of_kernels, *wide)[1](d_y.astype(dtype))
    return d_x, *(d.astype(kernel.dtype) for d, kernel in zip(gradients, kernels, strict=True))

  rounded.defvjp(forward, backward)
  return rounded
