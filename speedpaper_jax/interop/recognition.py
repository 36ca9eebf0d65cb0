"""Which network a state dict is of, by the names and shapes of its tensors."""

from collections.abc import Mapping

import numpy as np

from speedpaper_jax.interop import tensors
from speedpaper_jax.interop.names import Names, implementations
from speedpaper_jax.models import registry

_ENOUGH = 0.9


def whose(state_dict: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
  """Models and dialects in PyTorch whose tensors are all there, in their shapes.

  The softmax layer and auxiliary heads, which belong to classes and an image size, do not count.

  Args:
    state_dict: name → array.
  """
  found = {
    (model, names.dialect): None
    for model in registry.MODELS
    for names in implementations(model)
    if _has_convolutions(state_dict, names) and _has_tensors(state_dict, model, names)
  }
  return list(found)


def _has_convolutions(state_dict: Mapping[str, np.ndarray], names: Names) -> bool:
  """Tells most networks apart without building them; a table of names may have a few too many."""
  convolutions = [f"{names.layer(f'{block}/conv')}.weight" for block in names.blocks]
  present = sum(name in state_dict for name in convolutions)
  return present >= _ENOUGH * len(convolutions)


def _has_tensors(state_dict: Mapping[str, np.ndarray], model: str, names: Names) -> bool:
  network = registry.create(model, names.dialect, num_classes=0)
  return all(
    tensor.theirs in state_dict and state_dict[tensor.theirs].shape == tensor.their_shape
    for tensor in tensors.tensors(network, names, names.image_size)
  )
