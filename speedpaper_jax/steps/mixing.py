"""Mixed training images: mixup (Zhang et al., arXiv 1710.09412), CutMix (Yun et al., 1905.04899).

Each row of a batch is mixed with its neighbour, rows 0 and 1, 2 and 3, …, so that no image moves
between devices, and the draws of a pair depend on its place in the global batch alone.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Mixing:
  """How much neighbours are mixed; where both are given, either is as probable for a pair.

  Attributes:
    mixup: α of the Beta(α, α) distribution that the share of an image is drawn from; 0 for none.
    cutmix: the same of the share of the area that is left of an image.
  """

  mixup: float = 0.0
  cutmix: float = 0.0

  def __bool__(self) -> bool:
    return bool(self.mixup or self.cutmix)


NO_MIXING = Mixing()


def mix(
  images: jax.Array, batch: Batch, mixing: Mixing, key: jax.Array, axis_name: str | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Mixes each image with its neighbour, where both of them count.

  Args:
    images: normalised, [N, H, W, C]; N is even.
    batch: `label` int32 [N] and `mask` float32 [N].
    mixing: how much.
    key: the same on all devices.
    axis_name: a mapped axis over devices, each with its own rows.

  Returns:
    The images; and `batch` with the class of the larger share as `label`, and besides
    `other_label`, int32 [N], and `share`, float32 [N], of `label` in the image: from 0.5 to 1.
  """
  rows, height, width, _ = images.shape
  pairs = rows // 2
  first = 0 if axis_name is None else lax.axis_index(axis_name) * pairs
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(pairs))
  share, inside = jax.vmap(lambda pair: _draw(pair, mixing, height, width))(keys)
  counts = jnp.min(batch["mask"].reshape(pairs, 2), -1) > 0
  share = jnp.where(counts, share, 1.0)
  inside &= counts[:, None, None]

  own = images.reshape(pairs, 2, *images.shape[1:])
  neighbours = own[:, ::-1]
  is_cut = jnp.any(inside, (1, 2))
  weight = share[:, None, None, None, None]
  blended = weight * own + (1 - weight) * neighbours
  cut = jnp.where(inside[:, None, :, :, None], neighbours, own)
  mixed = jnp.where(is_cut[:, None, None, None, None], cut, blended)

  labels = batch["label"].reshape(pairs, 2)
  is_larger = (share >= 0.5)[:, None]
  return mixed.reshape(images.shape).astype(images.dtype), {
    **batch,
    "label": jnp.where(is_larger, labels, labels[:, ::-1]).reshape(rows),
    "other_label": jnp.where(is_larger, labels[:, ::-1], labels).reshape(rows),
    "share": jnp.repeat(jnp.maximum(share, 1 - share), 2),
  }


def _draw(key: jax.Array, mixing: Mixing, height: int, width: int) -> tuple[jax.Array, jax.Array]:
  """Of a pair: the share of an image's own class, and which pixels [H, W] are its neighbour's."""
  choice, of_mixup, of_cutmix, place = jax.random.split(key, 4)
  nowhere = jnp.zeros((height, width), bool)
  if not mixing.cutmix:
    return jax.random.beta(of_mixup, mixing.mixup, mixing.mixup), nowhere
  inside = _box(place, jax.random.beta(of_cutmix, mixing.cutmix, mixing.cutmix), height, width)
  left = 1 - jnp.mean(inside)
  if not mixing.mixup:
    return left, inside
  blends = jax.random.bernoulli(choice)
  share = jax.random.beta(of_mixup, mixing.mixup, mixing.mixup)
  return jnp.where(blends, share, left), inside & ~blends


def _box(key: jax.Array, share: jax.Array, height: int, width: int) -> jax.Array:
  """Pixels [H, W] of a box whose area is 1 - `share` where all of it is inside the image.

  Section 3.1 of CutMix: its sides are in the image's proportion, its centre is anywhere.
  """
  part = jnp.sqrt(1 - share)

  def of_side(key: jax.Array, length: int) -> jax.Array:
    centre = jax.random.randint(key, (), 0, length)
    half = jnp.floor(part * length / 2)
    place = jnp.arange(length)
    return (place >= centre - half) & (place < centre + half)

  vertical, horizontal = jax.random.split(key)
  return of_side(vertical, height)[:, None] & of_side(horizontal, width)[None, :]
