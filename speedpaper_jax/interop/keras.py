"""What Keras calls the layers of its own networks: convolutions have numbers, in building order."""

from collections.abc import Iterable, Mapping

from speedpaper_jax.interop.names import Tap
from speedpaper_jax.models.blocks import Branch, Conv, Fork, Part

# Of the number of a block, as `keras_files` counts.
CONV = "conv2d_{}"
BATCH_NORM = "batch_normalization_{}"


def convolutions(parts: Iterable[tuple[str, Part]]) -> list[str]:
  """Our names of the convolutions in rows of a network's table, in their order."""
  names: list[str] = []
  for name, part in parts:
    if isinstance(part, Conv):
      names.append(name)
    elif isinstance(part, tuple):
      names += [f"{name}/{convolution}" for convolution in in_branches(part)]
  return names


def in_branches(branches: tuple[Branch, ...]) -> list[str]:
  """Our names of the convolutions in a block, in their order."""
  names = []
  for branch in branches:
    for name, layer in branch.named_layers():
      if isinstance(layer, Conv):
        names.append(name)
      elif isinstance(layer, Fork):
        names += [name + letter for letter, _ in zip("ab", layer.tines, strict=True)]
  return names


def numbered(convolutions: Iterable[str]) -> dict[str, str]:
  """Our convolutions → Keras's numbers."""
  return {name: str(number) for number, name in enumerate(convolutions, start=1)}


def stages_of(numbers: Mapping[str, str]) -> dict[str, Tap]:
  """Stages that are convolutions outside of blocks, at their activations."""
  return {name: Tap(f"activation_{number}") for name, number in numbers.items() if "/" not in name}
