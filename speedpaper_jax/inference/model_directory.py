"""A trained network on disk: config.json, model.json and checkpoints/, as a run leaves them.

Evaluation, prediction and fine-tuning read any such directory, whoever trained the network.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

import speedpaper_jax
from speedpaper_jax.config import ranges
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules
from speedpaper_jax.models import registry
from speedpaper_jax.steps import build
from speedpaper_jax.storage.checkpoint import Checkpoints
from speedpaper_jax.storage.run_directory import RunDirectory

PyTree = Any

# Of a model directory, which later versions read, too. 1 stood nowhere, and its checkpoints had one
# item for all; 2 has the weights apart; 3 may whiten each image by itself, which what knows only 2
# would leave out in silence. A directory has the least that says all of it.
FORMAT = 3
_WITHOUT_WHITENING = 2

_RULES: rules.Rules = {
  "name": rules.one_of(registry.MODELS),
  "dialect": rules.NAME,
  "num_classes": rules.CLASSES,
  "class_names": rules.several(rules.TEXT),
  "preprocessing": {},
  "source": rules.TEXT,
}


@dataclasses.dataclass(frozen=True)
class ModelDescription:
  """What model.json says of a network.

  Attributes:
    name: of the network, see `models.create`.
    dialect: whose implementation it matches.
    num_classes: length of its logits; 0 for a network that gives features.
    class_names: one a class, or none at all.
    preprocessing: what turns an image into its input.
    source: where the weights come from, in words.
  """

  name: str
  dialect: str
  num_classes: int
  class_names: Sequence[str]
  preprocessing: Preprocessing
  source: str

  def __post_init__(self) -> None:
    registry.find_dialect(self.name, self.dialect)
    if len(self.class_names) not in (0, self.num_classes):
      raise UserError(f"{len(self.class_names)} names are given to {self.num_classes} classes.")

  def to_json(self) -> dict[str, Any]:
    """The content of model.json."""
    content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    whitened = self.preprocessing.normalization.per_image_whitening
    return {
      "format": FORMAT if whitened else _WITHOUT_WHITENING,
      **content,
      "class_names": list(self.class_names),
      "preprocessing": self.preprocessing.to_json(),
    }

  @classmethod
  def from_json(cls, content: Mapping[str, Any]) -> "ModelDescription":
    """Reads what `to_json` gives.

    Raises:
      UserError: a key is missing, or its value is not valid.
    """
    _check_format(content.get("format", 1))
    names = [field.name for field in dataclasses.fields(cls)]
    missing = [name for name in names if name not in content]
    if missing:
      raise UserError(f"There is no '{missing[0]}'.")
    rules.check(content, _RULES)
    values = {name: content[name] for name in names}
    values["class_names"] = tuple(values["class_names"])
    values["preprocessing"] = Preprocessing.from_json(values["preprocessing"])
    return cls(**values)


def _check_format(number: Any) -> None:
  rules.whole(1, 2**31 - 1).check("format", number)
  if number > FORMAT:
    raise UserError(
      f"its format is {number}, and version {speedpaper_jax.__version__} knows those up to "
      f"{FORMAT}; use the version that wrote it, or a newer one."
    )


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """A network that is ready for inference.

  Attributes:
    step: of the checkpoint.
    config: of the run.
    description: what model.json says.
    network: in the form for inference, on the devices it was loaded for.
    variables: `params` and `batch_stats`, replicated; see `load`.
  """

  step: int
  config: ml_collections.ConfigDict
  description: ModelDescription
  network: nn.Module
  variables: dict[str, PyTree]


def with_crop(model: LoadedModel, **changes: Any) -> LoadedModel:
  """The same network on images that are cropped otherwise.

  Args:
    model: the network.
    **changes: fields of `EvaluationCrop`; None for its own.

  Raises:
    UserError: its weights do not fit images of that size.
  """
  description = describe_with_crop(model.config, model.description, **changes)
  return dataclasses.replace(model, description=description)


def describe_with_crop(
  config: ml_collections.ConfigDict, description: ModelDescription, **changes: Any
) -> ModelDescription:
  """As `with_crop`, of a network that is not loaded yet."""
  preprocessing = description.preprocessing
  wanted = {field: value for field, value in changes.items() if value is not None}
  crop = dataclasses.replace(preprocessing.crop, **wanted)
  section, size = config.batch_norm, config.data.image_size
  if section.enabled and section.per_activation and crop.image_size != size:
    raise UserError(
      f"The network takes images of {size} pixels alone, and not of {crop.image_size}: in "
      f"config.batch_norm.per_activation='{section.per_activation}' it has weights for each "
      "activation."
    )
  return dataclasses.replace(
    description, preprocessing=dataclasses.replace(preprocessing, crop=crop)
  )


def load(
  path: pathlib.Path,
  mesh: Mesh,
  step: int | None = None,
  *,
  averaged: bool = True,
  statistics: str | None = None,
) -> LoadedModel:
  """Loads the newest whole checkpoint, or that of a step.

  Args:
    path: of the directory.
    mesh: the devices to put the variables on.
    step: None for the newest.
    averaged: whether to take the moving average where there is one, rather than what it is of.
    statistics: of batch normalization in inference, as `config.batch_norm.inference` has them; the
      run's own by default.

  Raises:
    UserError: a file is missing or damaged, a weight is not finite, or there is no checkpoint.
  """
  config, description = load_config(path), load_description(path)
  config.batch_norm.inference = statistics or config.batch_norm.inference
  network = build.build_inference_model(config, description.num_classes, mesh)
  template = build.variables_template(config, network, mesh)
  directory = RunDirectory(path)
  with contextlib.closing(Checkpoints(directory.checkpoints, read_only=True)) as saved:
    restored = saved.restore_weights(template, step, averaged=averaged)
  if restored is None:
    raise _no_checkpoint(directory)
  found_step, variables, _ = restored
  _check_finite(variables, directory.checkpoints, found_step)
  return LoadedModel(found_step, config, description, network, variables)


def check_has_checkpoint(path: pathlib.Path) -> None:
  """Raises a UserError if `load` would find nothing in the directory, before long work is done."""
  directory = RunDirectory(path)
  if not directory.has_checkpoint():
    raise _no_checkpoint(directory)


def _no_checkpoint(directory: RunDirectory) -> UserError:
  return UserError(f"There is no checkpoint in {directory.checkpoints}; train for longer.")


def _check_finite(variables: PyTree, path: pathlib.Path, step: int) -> None:
  """No run saves other weights, and with them every answer would be the same."""
  for name, leaf in jax.tree_util.tree_leaves_with_path(variables):
    values = np.asarray(leaf)
    finite = np.isfinite(values)
    if not finite.all():
      raise UserError(
        f"{values.size - np.count_nonzero(finite):,} of the {values.size:,} values of "
        f"{jax.tree_util.keystr(name, simple=True, separator='/')} in {path}, step {step}, are "
        "not finite; choose another checkpoint or directory."
      )


def load_config(path: pathlib.Path) -> ml_collections.ConfigDict:
  """Reads config.json.

  Raises:
    UserError: it is missing, damaged or of another version, or of another experiment than training.
  """
  config = ml_collections.ConfigDict(hosts.from_main(lambda: _read_config(RunDirectory(path))))
  try:
    ranges.check_train_fields(config)
  except UserError as error:
    raise UserError(f"{path / 'config.json'} is damaged, or of another version: {error}") from error
  return config


def _read_config(directory: RunDirectory) -> dict[str, Any]:
  content = directory.read_config()
  experiment = content["experiment"]
  if experiment == "train":
    return content
  networks = sorted(path.parent for path in directory.path.glob("runs/*/checkpoints"))
  if networks:
    raise UserError(
      f"'{directory.path}' is of the experiment '{experiment}', and the networks are in its runs; "
      f"name one, '{networks[0]}' for example."
    )
  raise UserError(
    f"'{directory.path}' is of the experiment '{experiment}', which keeps no network; name the "
    "--workdir of a training run."
  )


def load_description(path: pathlib.Path) -> ModelDescription:
  """Reads model.json.

  Raises:
    UserError: it is missing or damaged.
  """
  content = hosts.from_main(lambda: RunDirectory(path).read("model.json"))
  try:
    return ModelDescription.from_json(content)
  except UserError as error:
    raise UserError(f"{path / 'model.json'} is damaged, or of another version: {error}") from error


def check_vacant(path: pathlib.Path) -> None:
  """Raises a UserError if `write` can surely not make the directory, before long work is done."""
  try:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
      raise UserError(f"There is something at '{path}' already; name another directory.")
    parent = path.resolve().parent
    existing = next(place for place in (parent, *parent.parents) if place.exists())
  except OSError as error:
    raise UserError(f"'{path}' cannot be written: {error.strerror}.") from error
  if not existing.is_dir():
    raise UserError(f"'{path}' cannot be written: '{existing}' is no directory.")
  if not os.access(existing, os.W_OK):
    raise UserError(f"'{path}' cannot be written: you may not write in '{existing}'.")


def write(
  path: pathlib.Path,
  config: ml_collections.ConfigDict,
  description: Mapping[str, Any],
  variables: Mapping[str, PyTree],
  step: int = 0,
) -> None:
  """Writes weights that were trained elsewhere, whole or not at all.

  Args:
    path: of a directory that does not exist yet, or is empty.
    config: `train_config()` with the sections model, batch_norm and data as they were trained.
    description: the content of model.json, as `ModelDescription.to_json` gives it; more may stand
      there.
    variables: `params` and `batch_stats` of the network, training's auxiliary heads included where
      the config has them.
    step: the checkpoint's number.

  Raises:
    UserError: the description is not valid, or there is something at the path, or it cannot be
      written.
  """
  check_vacant(path)
  ModelDescription.from_json(description)
  whole = path.resolve()
  incomplete = RunDirectory(whole.with_name(f".{whole.name}.incomplete"))
  shutil.rmtree(incomplete.path, ignore_errors=True)  # what a killed process left
  try:
    whole.parent.mkdir(parents=True, exist_ok=True)
    incomplete.start(config)
    incomplete.write("model.json", dict(description))
    with contextlib.closing(Checkpoints(incomplete.checkpoints)) as saved:
      saved.save(step, variables, {})
    incomplete.path.replace(whole)
  except OSError as error:
    raise UserError(f"'{path}' cannot be written: {error.strerror or error}.") from error
  finally:
    shutil.rmtree(incomplete.path, ignore_errors=True)
