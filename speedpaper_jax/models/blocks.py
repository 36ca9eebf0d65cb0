"""Inception blocks written down as their figures draw them: branches of convolutions and pools."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models import features, ops
from speedpaper_jax.models.layers import (
  ConvBlock,
  LayerSettings,
  apply_and_pool,
  apply_siblings,
  choose_packing,
)


@dataclasses.dataclass(frozen=True)
class Conv:
  """A convolution with its batch normalization and nonlinearity.

  Attributes:
    features: number of filters.
    kernel: height and width, or one number for both.
    strides: in both directions.
    padding: see `ops`. In the figures of Inception-v4 "V" stands for "VALID".
  """

  features: int
  kernel: int | tuple[int, int] = 1
  strides: int = 1
  padding: ops.Padding = "SAME"


@dataclasses.dataclass(frozen=True)
class Pool:
  """A pool over 3×3 windows; `kind` is "avg" or "max"."""

  kind: str
  strides: int = 1
  padding: ops.Padding = "SAME"


@dataclasses.dataclass(frozen=True)
class Fork:
  """Convolutions of the same input, whose outputs are concatenated."""

  tines: tuple[Conv, ...]


AVG_POOL = Pool("avg")  # always in front of a 1×1 convolution
MAX_POOL_V = Pool("max", strides=2, padding="VALID")


@dataclasses.dataclass(frozen=True)
class Branch:
  """Layers one after the other.

  The parameters of a branch's only convolution have the name of the branch, those of several the
  numbers 1, 2, … after it, and the tines of a fork the letters a and b after the number.
  """

  name: str
  layers: tuple[Conv | Pool | Fork, ...]

  def named_layers(self) -> list[tuple[str, Conv | Pool | Fork]]:
    """The layers with the names of their parameters; of a fork's, the part before the letter."""
    convolutions = sum(not isinstance(layer, Pool) for layer in self.layers)
    number, named = 0, []
    for layer in self.layers:
      number += not isinstance(layer, Pool)
      named.append((f"{self.name}_{number}" if convolutions > 1 else self.name, layer))
    return named


def branch(name: str, *layers: Conv | Pool | Fork) -> Branch:
  """A branch, written in the order in which a figure draws it."""
  return Branch(name, layers)


def fork(*tines: Conv) -> Fork:
  """The end of a branch that divides in two."""
  return Fork(tines)


# What a branch is made of: a pool, a convolution, or the two of a fork.
Link = Pool | ConvBlock | tuple[ConvBlock, ...]


class InceptionBlock(nn.Module):
  """Branches of the same input, concatenated along the channels ("filter concat").

  Attributes:
    branches: in the order of their channels.
    settings: what all layers have in common.
  """

  branches: tuple[Branch, ...]
  settings: LayerSettings

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → [N, H', W', sum of the branches]."""
    return concatenate_branches(self, self.branches, self.settings, x, train)


def concatenate_branches(
  parent: nn.Module,
  branches: tuple[Branch, ...],
  settings: LayerSettings,
  x: jax.Array,
  train: bool,
) -> jax.Array:
  """Applies branches within `parent`, which calls this: [N, H, W, C] → [N, H', W', C'].

  Images that lie side by side in `x` do no longer in what is returned.
  """
  chains = [_links(one_branch, settings) for one_branch in branches]
  siblings = [chain[0] for chain in chains if _is_pointwise(chain[0])]
  of_x = apply_siblings(parent, siblings, x, train=train) if siblings else {}
  outputs = []
  for chain in chains:
    output = x
    for link in chain:
      if isinstance(link, Pool):
        output = pool(link, settings, output)
      elif isinstance(link, tuple):
        tines = [tine(output, train=train) for tine in link]
        output = jnp.concatenate(tines, axis=-1)
      else:
        name = str(link.name)
        output = of_x[name] if name in of_x else link(output, train=train)
    outputs.append(output if settings.packing is None else settings.packing.unpack(output))
  return jnp.concatenate(outputs, axis=-1)


def _links(one_branch: Branch, settings: LayerSettings) -> list[Link]:
  """A branch's layers as modules; an average pool is a part of the convolution after it."""
  links: list[Link] = []
  after_avg_pool = False
  for name, layer in one_branch.named_layers():
    if layer == AVG_POOL:
      after_avg_pool = True
    elif isinstance(layer, Pool):
      links.append(layer)
    elif isinstance(layer, Conv):
      links.append(conv_block(name, layer, settings, after_avg_pool))
      after_avg_pool = False
    else:
      tines = zip("ab", layer.tines, strict=True)
      links.append(tuple(conv_block(name + letter, tine, settings) for letter, tine in tines))
  assert not after_avg_pool, f"No convolution follows the average pool of {one_branch.name}."
  return links


def _is_pointwise(link: Link) -> TypeGuard[ConvBlock]:
  return isinstance(link, ConvBlock) and (*link.kernel_size, link.strides) == (1, 1, 1)


def conv_block(
  name: str, conv: Conv, settings: LayerSettings, after_avg_pool: bool = False
) -> ConvBlock:
  """A part of the module that calls this."""
  return ConvBlock(
    conv.features,
    (conv.kernel, conv.kernel) if isinstance(conv.kernel, int) else conv.kernel,
    settings,
    conv.strides,
    conv.padding,
    after_avg_pool=after_avg_pool,
    name=name,
  )


def pool(layer: Pool, settings: LayerSettings, x: jax.Array) -> jax.Array:
  """Applies a pool."""
  if layer.kind == "max":
    return settings.operations.max_pool(x, 3, layer.strides, layer.padding)
  return settings.operations.avg_pool(x, 3, layer.strides, layer.padding, settings.count_padding)


# A part of a network: one layer, or a block of branches.
Part = Conv | Pool | tuple[Branch, ...]


def apply_part(
  name: str, part: Part, settings: LayerSettings, x: jax.Array, train: bool
) -> jax.Array:
  """Applies one row of a network's table within the module that calls this."""
  if isinstance(part, Conv):
    return conv_block(name, part, settings)(x, train=train)
  if isinstance(part, Pool):
    return pool(part, settings, x)
  return InceptionBlock(part, settings, name=name)(x, train=train)


def apply_table(
  network: nn.Module,
  table: Iterable[tuple[str, Part]],
  settings: LayerSettings,
  x: jax.Array,
  train: bool,
  visit: Callable[[str, jax.Array], None] = lambda name, x: None,
) -> jax.Array:
  """Applies the rows of a table one after the other within `network`, as its stages.

  `visit` is called with the name and the output of each row, but not of a convolution in front of a
  max pool, which may be computed as one with it.
  """
  rows = list(table)
  packing = None
  if rows and isinstance(rows[0][1], Conv):
    filters = rows[0][1].features
    packing = choose_packing(network, filters, settings, x.shape[0], train=train)
  if packing is not None:
    x, settings = packing.pack(x), dataclasses.replace(settings, packing=packing)
  block: ConvBlock | None = None
  for (name, part), (_, following) in zip(rows, [*rows[1:], ("", None)], strict=True):
    if isinstance(part, Conv) and isinstance(following, Pool) and following.kind == "max":
      block = conv_block(name, part, settings)
      continue
    if block is not None and isinstance(part, Pool):
      x = apply_and_pool(network, block, x, functools.partial(pool, part, settings), train=train)
      block = None
    else:
      x = apply_part(name, part, settings, x, train)
    if settings.packing is not None and not isinstance(part, Conv):  # maps are smaller from here on
      x = settings.packing.unpack(x) if isinstance(part, Pool) else x
      settings = dataclasses.replace(settings, packing=None)
    x = features.stage(network, name, x)
    visit(name, x)
  return x


def repeat(name: str, times: int, part: Part) -> tuple[tuple[str, Part], ...]:
  """Rows of a table: "4 × Inception-A" and the like, numbered from 1."""
  return tuple((f"{name}_{i}", part) for i in range(1, times + 1))
