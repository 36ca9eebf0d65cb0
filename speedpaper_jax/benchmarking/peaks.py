"""What a device can do at most, as published or, where nothing is, as it is measured here."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from speedpaper_jax.compilation import chips
from speedpaper_jax.errors import UserError

_SIDE = 2048  # of a square matrix
_COPIED = 2**26  # float32
_TURNS = 5


@dataclasses.dataclass(frozen=True)
class Peaks:
  """Of one device.

  Attributes:
    device: "cpu", "gpu" or "tpu".
    device_kind: as JAX calls it.
    flops: floating-point operations a second.
    bandwidth: bytes a second between it and its memory.
    are_published: or measured: the fastest of a few products of large matrices, and of copies of a
      quarter of a gigabyte.
  """

  device: str
  device_kind: str
  flops: float
  bandwidth: float
  are_published: bool


def find(device: str, dtype: str) -> Peaks:
  """The peaks of the first device.

  Args:
    device: "cpu", "gpu" or "tpu"; empty for what JAX finds.
    dtype: of the arithmetic.

  Raises:
    UserError: JAX has no such device.
  """
  try:
    first = jax.devices(device or None)[0]
  except (AssertionError, RuntimeError) as error:  # the former where there is no GPU
    raise UserError(
      f"JAX has no device '{device}' here; leave --device out for what it finds."
    ) from error
  chip = chips.find(first.device_kind)
  if chip is not None:
    flops, bandwidth = chip.peak_flops(dtype), chip.memory_bandwidth
    return Peaks(first.platform, first.device_kind, flops, bandwidth, True)
  with jax.default_device(first):
    flops = 2 * _SIDE**3 / _seconds(_product, jnp.ones((_SIDE, _SIDE), dtype))
    bandwidth = 8 * _COPIED / _seconds(_copy, jnp.ones(_COPIED, jnp.float32))
  return Peaks(first.platform, first.device_kind, flops, bandwidth, False)


def _product(x: jax.Array) -> jax.Array:
  return x @ x


def _copy(x: jax.Array) -> jax.Array:
  return x + 1


def _seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
  """The shortest of a few calls."""
  compiled = jax.jit(function).lower(x).compile()
  times = []
  for _ in range(_TURNS):
    began = time.perf_counter()
    jax.block_until_ready(compiled(x))
    times.append(time.perf_counter() - began)
  return min(times[1:])
