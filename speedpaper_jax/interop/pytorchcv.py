"""What pytorchcv calls a block's convolutions: by the numbers of their branches, and their own."""

from collections.abc import Mapping

from speedpaper_jax.data.normalization import IMAGENET
from speedpaper_jax.interop.names import Names, convolutions_of, stages_of
from speedpaper_jax.models.blocks import Branch, Conv, Fork


def names(
  dialect: str,
  convolutions: Mapping[str, str],
  blocks: Mapping[str, tuple[str, Mapping[str, str]]],
  layers: Mapping[str, str],
  image_size: int = 299,
) -> Names:
  """The names of one of its networks.

  Args:
    dialect: of ours that it is.
    convolutions: our convolutions outside of blocks → theirs.
    blocks: as `convolutions_of` takes them.
    layers: our layers outside of both → theirs.
    image_size: pixels of its weights.
  """
  return Names(
    source="pytorchcv",
    dialect=dialect,
    image_size=image_size,
    normalization=IMAGENET,
    central_fraction=0.875 if image_size == 224 else 0.874,  # 256 and 342 pixels, rounded up
    interpolation="bilinear",
    blocks={**convolutions, **convolutions_of(blocks)},
    layers=layers,
    stages=stages_of(convolutions, blocks),
  )


def convolutions(branches: tuple[Branch, ...], single: str = "conv") -> dict[str, str]:
  """Our names of the convolutions of a block → pytorchcv's.

  Args:
    branches: of the block.
    single: what the only convolution of a branch is called.
  """
  found = {}
  for number, branch in enumerate(branches, start=1):
    layers = [(n, layer) for n, layer in branch.named_layers() if isinstance(layer, Conv | Fork)]
    theirs = f"branches.branch{number}"
    for position, (name, layer) in enumerate(layers, start=1):
      if isinstance(layer, Fork):
        for letter, tine in zip("ab", layer.tines, strict=True):
          found[name + letter] = f"{theirs}.{_by_window(tine)}"
      elif len(layers) == 1:
        found[name] = f"{theirs}.{single}"
      else:
        found[name] = f"{theirs}.conv_list.conv{position}"
  return found


def _by_window(conv: Conv) -> str:
  height, width = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel, conv.kernel)
  return f"conv{height}x{width}"
