"""What pytorchcv calls a block's convolutions: by the numbers of their branches, and their own."""

from speedpaper_jax.models.blocks import Branch, Conv, Fork


def convolutions(branches: tuple[Branch, ...], single: str = "conv") -> dict[str, str]:
  """Our names of the convolutions of a block → pytorchcv's.

  Args:
    branches: of the block.
    single: what the only convolution of a branch is called.
  """
  names = {}
  for number, branch in enumerate(branches, start=1):
    layers = [(n, layer) for n, layer in branch.named_layers() if isinstance(layer, Conv | Fork)]
    theirs = f"branches.branch{number}"
    for position, (name, layer) in enumerate(layers, start=1):
      if isinstance(layer, Fork):
        for letter, tine in zip("ab", layer.tines, strict=True):
          names[name + letter] = f"{theirs}.{_by_window(tine)}"
      elif len(layers) == 1:
        names[name] = f"{theirs}.{single}"
      else:
        names[name] = f"{theirs}.conv_list.conv{position}"
  return names


def _by_window(conv: Conv) -> str:
  height, width = conv.kernel if isinstance(conv.kernel, tuple) else (conv.kernel, conv.kernel)
  return f"conv{height}x{width}"
