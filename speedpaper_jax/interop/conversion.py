"""From a PyTorch state dict to a network of ours with its settings, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from speedpaper_jax import models
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.inference.model_directory import LoadedModel
from speedpaper_jax.interop import recognition, tensors
from speedpaper_jax.interop.names import Names, implementations, own_names
from speedpaper_jax.interop.tensors import StateDict
from speedpaper_jax.models import registry

PyTree = Any

_IMAGENET, _WITH_BACKGROUND = 1000, 1001


@dataclasses.dataclass(frozen=True)
class Weights:
  """What a state dict holds.

  Attributes:
    variables: `params` and `batch_stats`, float32.
    names: the implementation whose tensors they were.
    num_classes: of `variables`.
    dropped_background: whether the file had a background class in front of them.
    has_aux_heads: whether the auxiliary heads were among the tensors.
    steps: that PyTorch counted in training.
    notes: sentences about what was left out or rounded.
  """

  variables: dict[str, PyTree]
  names: Names
  num_classes: int
  dropped_background: bool
  has_aux_heads: bool
  steps: int
  notes: tuple[str, ...]


def read_weights(
  model: str,
  dialect: str | None,
  state_dict: Mapping[str, np.ndarray],
  num_classes: int | None,
  image_size: int | None,
  source: str,
) -> Weights:
  """Finds out whose state dict it is, and converts it.

  A state dict without a softmax layer gives a network of no classes. Auxiliary heads, which work in
  training alone, are left out where they do not fit.

  Args:
    model: name of the network.
    dialect: whose implementation; may be None where one dialect alone is in PyTorch.
    state_dict: name → array.
    num_classes: None for the file's own, but 1000 for 1001: ImageNet's with a background class
      first; 0 to leave the softmax layer out.
    image_size: pixels; None for the implementation's own.
    source: what the state dict is called in error messages.

  Raises:
    UserError: a tensor is missing, left over or of another shape, its values are no weights, or the
      classes do not fit.
  """
  names = _names_of(model, dialect, state_dict)
  try:
    return _convert(model, names, state_dict, num_classes, image_size, source)
  except UserError as error:
    others = recognition.whose(state_dict)
    if not others or (model, names.dialect) in others:
      raise
    fitting = " or ".join(f"--model={name} --dialect={theirs}" for name, theirs in others)
    raise UserError(f"{error} Its tensors are those of {fitting}.") from error


def _convert(
  model: str,
  names: Names,
  state_dict: Mapping[str, np.ndarray],
  num_classes: int | None,
  image_size: int | None,
  source: str,
) -> Weights:
  names = dataclasses.replace(names, image_size=image_size or names.image_size)
  available = count_classes(state_dict, names)
  state_dict, wanted, notes = _fit_classes(state_dict, names, available, num_classes, source)
  has_aux = _has_aux(state_dict, names)
  reason = _why_without_aux(model, names, wanted, state_dict) if has_aux else None
  if reason is not None:
    notes.append(
      f"The weights of the auxiliary heads, which inference does without, are left out: {reason}."
    )
    has_aux, state_dict = False, _without(state_dict, *names.aux.values())
  table = tensors.tensors(create_network(model, names, wanted, has_aux), names, names.image_size)
  variables = tensors.from_torch(state_dict, table, source)
  notes += _rounded(state_dict, table)
  return Weights(
    variables=jax.tree.map(lambda values: np.asarray(values, np.float32), variables),
    names=names,
    num_classes=wanted,
    dropped_background=(available, wanted) == (_WITH_BACKGROUND, _IMAGENET),
    has_aux_heads=has_aux,
    steps=tensors.steps_of(state_dict),
    notes=tuple(notes),
  )


def count_classes(state_dict: Mapping[str, np.ndarray], names: Names) -> int:
  """Of the softmax layer; 0 where there is nothing of it."""
  layer = names.layers["logits"]
  leaves = {name: values for name, values in state_dict.items() if name.startswith(f"{layer}.")}
  for leaf in ("bias", "weight"):
    shape = leaves[f"{layer}.{leaf}"].shape if f"{layer}.{leaf}" in leaves else ()
    if shape:
      return shape[0]
  return 1 if leaves else 0  # as the message about the layer's tensors says


def _fit_classes(
  state_dict: Mapping[str, np.ndarray],
  names: Names,
  available: int,
  wanted: int | None,
  source: str,
) -> tuple[Mapping[str, np.ndarray], int, list[str]]:
  """Drops a background class or the whole softmax layer; returns the number of classes, too."""
  if wanted is None:
    wanted = _IMAGENET if available == _WITH_BACKGROUND else available
  if (available, wanted) == (_WITH_BACKGROUND, _IMAGENET):
    return _without_background(state_dict, names), wanted, []
  if wanted and not available:
    raise UserError(f"{source} has no softmax layer; leave --num_classes out, or set it to 0.")
  if not available:
    return state_dict, 0, ["There is no softmax layer; the network gives features, not classes."]
  if not wanted:
    features = _without(state_dict, f"{names.layers['logits']}.")
    return features, 0, [f"The softmax layer of {available} classes is left out."]
  if wanted != available:
    raise UserError(f"{source} has {available} classes, not {wanted}; leave --num_classes out.")
  return state_dict, wanted, []


def _has_aux(state_dict: Mapping[str, np.ndarray], names: Names) -> bool:
  return any(name.startswith(tuple(names.aux.values())) for name in state_dict)


def _why_without_aux(
  model: str, names: Names, num_classes: int, state_dict: Mapping[str, np.ndarray]
) -> str | None:
  """Why auxiliary heads do not fit the network; None where they do."""
  if not num_classes:
    return "a network without classes has none"
  network = create_network(model, names, num_classes, has_aux=True)
  for tensor in tensors.tensors(network, names, names.image_size):
    if not tensor.theirs.startswith(tuple(names.aux.values())):
      continue
    if tensor.theirs not in state_dict:
      return f"'{tensor.theirs}' is missing"
    shape = state_dict[tensor.theirs].shape
    if shape != tensor.their_shape:
      return (
        f"'{tensor.theirs}' has the shape {list(shape)}, not {list(tensor.their_shape)} as of "
        f"{num_classes} classes at {names.image_size} pixels"
      )
  return None


def _rounded(state_dict: Mapping[str, np.ndarray], table: list[tensors.Tensor]) -> list[str]:
  """What float32 does not keep."""
  with np.errstate(under="ignore"):
    names = [
      tensor.theirs
      for tensor in table
      if np.any(state_dict[tensor.theirs].astype(np.float32) != state_dict[tensor.theirs])
    ]
  if not names:
    return []
  more = f" and {len(names) - 1} more" if len(names) > 1 else ""
  return [f"float64 is rounded to float32 in '{names[0]}'{more}."]


def create_network(model: str, names: Names, num_classes: int, has_aux: bool) -> nn.Module:
  """Our network with just the parts that the tensors are of."""
  has_setting = registry.has_field(model, "use_aux_heads")
  options: dict[str, Any] = {"use_aux_heads": has_aux} if has_setting else {}
  return models.create(model, names.dialect, num_classes=num_classes, **options)


def config_of(model: str, weights: Weights, crop: EvaluationCrop) -> ml_collections.ConfigDict:
  """The config with which a model directory of these weights is evaluated and trained on."""
  config = train_config()
  batch_norm = registry.find_dialect(model, weights.names.dialect).batch_norm
  config.model.update(name=model, dialect=weights.names.dialect, aux_heads=weights.has_aux_heads)
  config.batch_norm.enabled = batch_norm is not None
  config.data.update(
    name="imagenet2012",
    eval_split="validation",
    image_size=crop.image_size,
    eval_central_fraction=crop.central_fraction,
    eval_resize=crop.resize,
    eval_interpolation=crop.interpolation,
  )
  return config


def state_dict_of(loaded: LoadedModel, source: str | None) -> StateDict:
  """The state dict of a model directory.

  Args:
    loaded: the network and its variables.
    source: whose names; None for the first implementation of the network's dialect.

  Raises:
    UserError: that package has no such network.
  """
  model, dialect = loaded.description.name, loaded.description.dialect
  available = [names for names in implementations(model, dialect) if names.in_torch]
  chosen = [names for names in available if source in (None, names.source)]
  if source is not None and not chosen:
    valid = ", ".join(f"'{names.source}'" for names in available) or "none"
    raise UserError(
      f"'{source}' has no {model} in the dialect '{dialect}'. Valid for --source: {valid}."
    )
  names = chosen[0] if chosen else own_names(model, dialect)
  network, variables = loaded.network, jax.device_get(loaded.variables)
  if chosen:
    _check_layers(network, names, model)
  if not names.aux and getattr(network, "use_aux_heads", False):
    warn(f"{names.source}'s {model} has no auxiliary head; the network's is left out.")
    network = network.clone(use_aux_heads=False)
    variables = {
      collection: {name: leaf for name, leaf in tree.items() if name != "aux"}
      for collection, tree in variables.items()
    }
  table = tensors.tensors(network, names, loaded.config.data.image_size)
  return tensors.to_torch(variables, table, loaded.step)


def _check_layers(network: nn.Module, names: Names, model: str) -> None:
  """Tells of what a package's network has in its layers, and tensors do not say."""
  trained, theirs = network.settings.batch_norm, network.dialect.batch_norm
  if trained is None or network.settings.activation != "relu":
    raise UserError(
      f"{names.source}'s {model} has batch normalization and rectified linear units, and this "
      f"network was trained without; it has no place there."
    )
  if network.settings.width != 1:
    raise UserError(
      f"The network has {network.settings.width:g} times the filters of {names.source}'s {model}; "
      f"it has no place there."
    )
  if trained.per_activation or trained.per_activation_layers:
    raise UserError(
      f"{names.source}'s {model} normalises feature maps, and this network each activation of "
      f"some layers by itself; it has no place there."
    )
  if trained.epsilon != theirs.epsilon:
    warn(
      f"The network was trained with ε = {trained.epsilon}, and {names.source}'s has "
      f"{theirs.epsilon}: set eps of each of its batch normalizations."
    )
  scales = getattr(network, "residual_scales", None)
  if scales is not None and scales != network.dialect.residual_scales:
    warn(
      f"The network was trained with the residual scales {list(scales)}, and {names.source}'s has "
      f"{list(network.dialect.residual_scales)}: set scale of each of its residual blocks."
    )


def _names_of(model: str, dialect: str | None, state_dict: Mapping[str, np.ndarray]) -> Names:
  """The implementation of whose tensors the most are there; the first of those with as many."""
  ours = own_names(model, dialect or registry.dialects(model)[0])
  available = implementations(model, dialect)
  present = [_count_present(model, names, state_dict) for names in available]
  if _count_present(model, ours, state_dict) > max(present, default=-1):
    return ours
  best = [names for names, count in zip(available, present, strict=True) if count == max(present)]
  dialects = list(dict.fromkeys(names.dialect for names in best))
  if len(dialects) > 1:
    raise UserError(f"Name whose {model} it is with --dialect; valid: {', '.join(dialects)}.")
  return best[0]


def _count_present(model: str, names: Names, state_dict: Mapping[str, np.ndarray]) -> int:
  network = create_network(model, names, num_classes=0, has_aux=False)
  table = tensors.tensors(network, names, names.image_size)
  layers = {f"{names.layers['logits']}.bias", *(tensor.theirs for tensor in table)}
  return len(layers & state_dict.keys())


def _without_background(state_dict: Mapping[str, np.ndarray], names: Names) -> StateDict:
  """Without the first of 1001 classes of each softmax layer."""
  layers = [theirs for ours, theirs in names.layers.items() if ours.endswith("logits")]
  softmax = {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")}
  return {
    name: values[1:] if name in softmax and values.shape[:1] == (_WITH_BACKGROUND,) else values
    for name, values in state_dict.items()
  }


def _without(state_dict: Mapping[str, np.ndarray], *prefixes: str) -> StateDict:
  return {name: values for name, values in state_dict.items() if not name.startswith(prefixes)}
