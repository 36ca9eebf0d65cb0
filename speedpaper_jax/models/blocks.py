"""Inception blocks written down as their figures draw them: branches of convolutions and pools."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models import ops
from speedpaper_jax.models.layers import ConvBlock, LayerSettings


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


AVG_POOL = Pool("avg")
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
    return concatenate_branches(self.branches, self.settings, x, train)


def concatenate_branches(
  branches: tuple[Branch, ...], settings: LayerSettings, x: jax.Array, train: bool
) -> jax.Array:
  """Applies branches within the module that calls this: [N, H, W, C] → [N, H', W', C']."""
  outputs = []
  for one_branch in branches:
    output = x
    for name, layer in one_branch.named_layers():
      if isinstance(layer, Pool):
        output = pool(layer, settings, output)
      elif isinstance(layer, Conv):
        output = convolve(name, layer, settings, output, train)
      else:
        tines = [
          convolve(name + letter, tine, settings, output, train)
          for letter, tine in zip("ab", layer.tines, strict=True)
        ]
        output = jnp.concatenate(tines, axis=-1)
    outputs.append(output)
  return jnp.concatenate(outputs, axis=-1)


def convolve(
  name: str, conv: Conv, settings: LayerSettings, x: jax.Array, train: bool
) -> jax.Array:
  """Applies a `ConvBlock` within the module that calls this."""
  kernel_size = (conv.kernel, conv.kernel) if isinstance(conv.kernel, int) else conv.kernel
  block = ConvBlock(conv.features, kernel_size, settings, conv.strides, conv.padding, name=name)
  return block(x, train=train)


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
    return convolve(name, part, settings, x, train)
  if isinstance(part, Pool):
    return pool(part, settings, x)
  return InceptionBlock(part, settings, name=name)(x, train=train)


def repeat(name: str, times: int, part: Part) -> tuple[tuple[str, Part], ...]:
  """Rows of a table: "4 × Inception-A" and the like, numbered from 1."""
  return tuple((f"{name}_{i}", part) for i in range(1, times + 1))
