"""Images side by side in the channels, for the first maps of a network on a TPU.

A TPU keeps 128 channels next to each other in memory and in its units, whether a map has so many or
not. The first maps have 32 or 64, at the most positions of all: with the channels of four images,
or of two, one after the other, nothing of that is empty. Kernels become block-diagonal, and what
they multiply with zeros was empty before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# More are a waste of products: their number grows with that of the images.
_MOST_IMAGES = 4
# Rows of a batch that lie below each other in a tile, as channels do beside each other. A batch of
# as many rows as a tile is wide is laid out along them by the compiler, and nothing is empty.
_ROWS_OF_A_TILE = 8


class Packing(NamedTuple):
  """How images lie side by side.

  Attributes:
    images: side by side in the channels; the first image's come first.
    runs: equal runs of a batch's rows. Images of different runs, which may be on different devices
      or normalised in different groups, are not put together.
  """

  images: int
  runs: int

  def pack(self, x: jax.Array) -> jax.Array:
    """[N, H, W, C] → [N / images, H, W, images · C]."""
    runs = x.reshape(self.runs, self.images, -1, *x.shape[1:])
    packed = jnp.concatenate([runs[:, image] for image in range(self.images)], -1)
    return packed.reshape(-1, *packed.shape[2:])

  def unpack(self, x: jax.Array) -> jax.Array:
    """[N / images, H, W, images · C] → [N, H, W, C]."""
    runs = x.reshape(self.runs, -1, *x.shape[1:])
    images = jnp.concatenate(jnp.split(runs, self.images, -1), 1)
    return images.reshape(-1, *images.shape[2:])

  def pack_mask(self, mask: jax.Array, channels: int) -> jax.Array:
    """What is known of each image, for all its channels: [N] → [N / images, 1, 1, images · C]."""
    return jnp.repeat(self.pack(mask.reshape(-1, 1, 1, 1)), channels, -1)

  def split(self, of_channels: jax.Array) -> jax.Array:
    """What was found of each image's channels: [..., images · C] → [images, ..., C]."""
    return jnp.stack(jnp.split(of_channels, self.images, -1))

  def conv(self, conv: Callable[..., jax.Array], x: jax.Array) -> Callable[..., jax.Array]:
    """A convolution of `x`, packed, with the kernel that it is given, that of one image.

    What is not finite in one image makes those beside it NaN, since zeros are multiplied with it.

    Args:
      conv: the signature of `lax.conv_general_dilated`.
      x: [N / images, H, W, images · C]; the result's first argument does not matter.
    """

    def of_packed(_: jax.Array, kernel: jax.Array, *arguments: Any, **named: Any) -> jax.Array:
      height, width, inputs, outputs = kernel.shape
      diagonal = jnp.einsum("hwio,mn->hwmino", kernel, jnp.eye(self.images, dtype=kernel.dtype))
      shape = height, width, self.images * inputs, self.images * outputs
      return conv(x, diagonal.reshape(shape), *arguments, **named)

    return of_packed


def repeat(of_channels: jax.Array, packing: Packing | None) -> jax.Array:
  """What all images have in common: [..., C] → [..., images · C]; the same without packing."""
  return of_channels if packing is None else jnp.concatenate([of_channels] * packing.images, -1)


def choose(
  channels_at_once: int, filters: int, rows: int, groups: int, devices: int
) -> Packing | None:
  """How many images to put side by side; None where that would not be faster.

  Args:
    channels_at_once: that lie next to each other, 128 on a TPU.
    filters: of the first layer.
    rows: N, of the batch.
    groups: of rows that are normalised together.
    devices: that the rows are divided over.
  """
  images, runs = min(channels_at_once // filters, _MOST_IMAGES), max(groups, devices)
  if images < 2 or runs % groups or runs % devices or rows % (runs * images * _ROWS_OF_A_TILE):
    return None
  return Packing(images, runs) if rows // devices < channels_at_once else None
