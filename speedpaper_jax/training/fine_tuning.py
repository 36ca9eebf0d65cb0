"""Training that starts from the weights of another model directory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from flax import traverse_util

from speedpaper_jax.data import class_names
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.models import layer_names, registry
from speedpaper_jax.steps.step import TrainState

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Transferred:
  """What a network has taken from another one.

  Attributes:
    variables: its `params` and `batch_stats`.
    fresh: names of the layers that stay as initialised.
    classes: what became of the softmax layers, in words; "" where they are taken as they are.
  """

  variables: dict[str, PyTree]
  fresh: list[str]
  classes: str

  def __str__(self) -> str:
    fresh = f", except for {', '.join(self.fresh)}" if self.fresh else ""
    return fresh + (f" ({self.classes})" if self.classes else "")


def transfer(
  config: ml_collections.ConfigDict,
  source: LoadedModel,
  fresh: TrainState,
  names: Sequence[str],
) -> Transferred:
  """Takes all weights that serve the new network.

  Auxiliary heads may be in one of the networks alone, and some of their layers fit one image size
  alone. Softmax layers, those of auxiliary heads too, belong to their classes: they are taken where
  the classes have the same names, in the order of the new ones.

  Args:
    config: of the new network.
    source: what to take weights from.
    fresh: the new network's state as initialised; arrays or their shapes.
    names: of the new network's classes.

  Raises:
    UserError: the networks differ otherwise.
  """
  _check_network(config, source.description)
  numbers, classes = _match(source.description, names)
  new = traverse_util.flatten_dict({"params": fresh.params, "batch_stats": fresh.batch_stats})
  old = traverse_util.flatten_dict(source.variables)
  kept = {}
  of_another_size = _auxiliary_layers_that_differ(new, old)
  for path in sorted(new.keys() | old.keys()):
    if not _has_module(old, path):
      kept[path] = path[1:2]
    elif _is_softmax_layer(path) and numbers is None:
      kept[path] = path[1:-1]
    elif path[1:3] in of_another_size:
      kept[path] = path[1:3]
    elif _has_module(new, path) and _shape(new, path) != _shape(old, path):
      of_one_size = config.batch_norm.per_activation
      sections = "config.model, config.data.image_size" if of_one_size else "config.model"
      raise UserError(
        f"The weights in config.init_from='{config.init_from}' do not fit: {'/'.join(path[1:])} is "
        f"{_shape(old, path)} there and {_shape(new, path)} here; set {sections} and "
        "config.batch_norm as they are in its config.json."
      )
    elif _is_softmax_layer(path) and classes:  # of kernel and bias alike have the classes last
      old[path] = np.asarray(old[path])[..., np.array(numbers)]
  merged = {path: value if path in kept else old[path] for path, value in new.items()}
  layers = {"/".join(name) for path, name in kept.items() if path in new}
  return Transferred(traverse_util.unflatten_dict(merged), sorted(layers), classes)


def _match(source: ModelDescription, names: Sequence[str]) -> tuple[tuple[int, ...] | None, str]:
  """The source's number of each class, None where the softmax layers start anew; and why, in words.

  Names that are not known are no reason to take a layer for that of the same classes.
  """
  known = source.class_names
  if class_names.same(known, names):
    return tuple(range(len(names))), ""
  numbers = class_names.positions(names, known) if len(known) == len(names) else None
  if numbers is not None:
    return numbers, "its softmax layers are put in the order of the classes' names"
  if known:
    return None, f"its classes are others: {class_names.difference(known, names)}"
  return None, "the names of its classes are not known" if source.num_classes else ""


def _check_network(config: ml_collections.ConfigDict, source: ModelDescription) -> None:
  wanted = config.model.name, config.model.dialect or registry.dialects(config.model.name)[0]
  found = source.name, source.dialect
  if wanted != found:
    raise UserError(
      f"config.init_from='{config.init_from}' holds {':'.join(found)}, not {':'.join(wanted)}; "
      "set config.model.name and config.model.dialect to its own, or choose another directory."
    )


def _is_softmax_layer(path: tuple[str, ...]) -> bool:
  return len(path) > 2 and path[-2] == layer_names.SOFTMAX_LAYER


def _auxiliary_layers_that_differ(
  new: Mapping[tuple[str, ...], Any], old: Mapping[tuple[str, ...], Any]
) -> set[tuple[str, ...]]:
  """Layers of auxiliary heads, batch normalization included, with an array of another shape."""
  return {
    path[1:3]
    for path in new.keys() & old.keys()
    if path[1] in layer_names.AUXILIARY_HEADS and new[path].shape != old[path].shape
  }


def _has_module(variables: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> bool:
  """Whether there is anything of the part of the network, such as an auxiliary head, of a path."""
  return any(other[:2] == path[:2] for other in variables)


def _shape(variables: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> str:
  if path not in variables:
    return "absent"
  return "×".join(map(str, variables[path].shape))
