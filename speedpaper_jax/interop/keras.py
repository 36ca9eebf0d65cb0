"""What Keras calls the layers of its own networks: convolutions have numbers, in building order."""

from collections.abc import Iterable, Mapping

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop.names import Names, Tap
from speedpaper_jax.models.blocks import Branch, Conv, Fork, Part


def names(
  numbers: Mapping[str, str], layers: Mapping[str, str], stages: Mapping[str, Tap]
) -> Names:
  """The names of one of its networks, of our dialect `slim`.

  Args:
    numbers: our convolutions → Keras's numbers.
    layers: our other layers → theirs.
    stages: our stages but for the convolutions outside of blocks → where theirs are seen.
  """
  return Names(
    source="keras",
    dialect="slim",
    image_size=299,
    normalization=DEFAULT,
    central_fraction=1.0,
    resize="squash",
    interpolation="bilinear",
    blocks=numbers,
    layers=layers,
    stages={**_stages_of(numbers), **stages},
    conv="conv2d_{}",
    batch_norm="batch_normalization_{}",
    in_torch=False,
  )


def convolutions(parts: Iterable[tuple[str, Part]]) -> list[str]:
  """Our names of the convolutions in rows of a network's table, in their order."""
  found: list[str] = []
  for name, part in parts:
    if isinstance(part, Conv):
      found.append(name)
    elif isinstance(part, tuple):
      found += [f"{name}/{convolution}" for convolution in in_branches(part)]
  return found


def in_branches(branches: tuple[Branch, ...]) -> list[str]:
  """Our names of the convolutions in a block, in their order."""
  found = []
  for branch in branches:
    for name, layer in branch.named_layers():
      if isinstance(layer, Conv):
        found.append(name)
      elif isinstance(layer, Fork):
        found += [name + letter for letter, _ in zip("ab", layer.tines, strict=True)]
  return found


def numbered(convolutions: Iterable[str]) -> dict[str, str]:
  """Our convolutions → Keras's numbers."""
  return {name: str(number) for number, name in enumerate(convolutions, start=1)}


def _stages_of(numbers: Mapping[str, str]) -> dict[str, Tap]:
  """Stages that are convolutions outside of blocks, at their activations."""
  return {name: Tap(f"activation_{number}") for name, number in numbers.items() if "/" not in name}
