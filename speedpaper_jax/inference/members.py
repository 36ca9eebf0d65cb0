"""Members of an ensemble: trained networks on disk, evaluated on the same images in turn.

One network is on the devices at a time; what it says of the images stays on the host.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax.compilation import freed_memory
from speedpaper_jax.data import class_names, relabel
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import Crop
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split, open_split
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError, inform
from speedpaper_jax.inference import ensembles, model_directory
from speedpaper_jax.inference.ensembles import ByCount
from speedpaper_jax.inference.evaluation import (
  Evaluator,
  Probabilities,
  needs_population_statistics,
  tell_left_out,
)
from speedpaper_jax.inference.model_directory import ModelDescription


@dataclasses.dataclass(frozen=True)
class Member:
  """A network that is to be evaluated, before its weights are loaded.

  Attributes:
    name: what it is called.
    path: of its directory.
    step: of the checkpoint; None for the newest.
    config: of its training.
    description: what model.json says, with the crop to evaluate with.
    trained_on: section `data` of a config that names the training images.
  """

  name: str
  path: pathlib.Path
  step: int | None
  config: ml_collections.ConfigDict
  description: ModelDescription
  trained_on: ml_collections.ConfigDict


@dataclasses.dataclass(frozen=True)
class Result:
  """What a member gives by itself.

  Attributes:
    name: of the member.
    step: of its checkpoint.
    preprocessing: of the images.
    metrics: as of `ensembles.evaluate`.
  """

  name: str
  step: int
  preprocessing: Preprocessing
  metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Members that were evaluated on the same images, and their mean.

  Attributes:
    members: what each gives by itself, in their order.
    labels: [N], of the images that can be decoded.
    probabilities: of each member float32 [N, classes], the classes in one order.
  """

  members: Sequence[Result]
  labels: np.ndarray
  probabilities: Sequence[np.ndarray]

  @functools.cached_property
  def metrics(self) -> dict[str, float]:
    """Of the mean of the probabilities, as of `ensembles.evaluate`."""
    return ensembles.evaluate(ensembles.average(self.probabilities), self.labels)

  @functools.cached_property
  def by_count(self) -> list[ByCount]:
    """How the error falls with the number of members."""
    return ensembles.by_count(self.probabilities, self.labels)

  def to_json(self) -> dict[str, Any]:
    """All results: `members`, `ensemble` and `by_count`."""
    return {
      "members": [
        {
          "name": member.name,
          "step": member.step,
          "preprocessing": member.preprocessing.to_json(),
          **member.metrics,
        }
        for member in self.members
      ],
      "ensemble": self.metrics,
      "by_count": [dataclasses.asdict(row) for row in self.by_count],
    }

  def arrays(self) -> dict[str, np.ndarray]:
    """All that was averaged, for a file."""
    names = [member.name for member in self.members]
    return arrays(names, self.labels, self.probabilities)


def arrays(
  names: Sequence[str], labels: np.ndarray, probabilities: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
  """What a file of probabilities holds: those of each of the `members`, and the `labels`."""
  return {
    "labels": labels,
    "probabilities": np.stack(probabilities),
    "members": np.array(names),
  }


def read(
  name: str,
  path: pathlib.Path,
  step: int | None = None,
  trained_on: ml_collections.ConfigDict | None = None,
  **crop: Any,
) -> Member:
  """Reads what is known of a network without its weights.

  Args:
    name: what it is called.
    path: of its directory.
    step: of the checkpoint; None for the newest.
    trained_on: see `Member`; its config's own by default.
    **crop: fields of `EvaluationCrop`; None for its own.

  Raises:
    UserError: a file is missing or damaged, there is no checkpoint, the network gives features, or
      it does not fit images of that size.
  """
  config, description = model_directory.load_config(path), model_directory.load_description(path)
  hosts.from_main(lambda: model_directory.check_has_checkpoint(path))
  if not description.num_classes:
    raise UserError(f"The network in '{path}' gives features, not classes, to evaluate.")
  try:
    description = model_directory.describe_with_crop(config, description, **crop)
  except UserError as error:
    raise UserError(f"'{name}': {error}") from error
  return Member(name, path, step, config, description, trained_on or config.data)


def evaluate(
  members: Sequence[Member],
  mesh: Mesh,
  images: Split,
  *,
  batch_size: int | None = None,
  crops: Callable[[EvaluationCrop], Crop] = lambda crop: crop,
  on_member: Callable[[Result], None] = lambda result: None,
) -> Ensemble:
  """Evaluates networks one after the other, and averages their probabilities.

  Args:
    members: one or more, of the same classes in whatever order.
    mesh: the devices.
    images: to evaluate on.
    batch_size: images at a time; each member's own in evaluation by default.
    crops: of an image, whose probabilities are averaged, see `Evaluator.probabilities`.
    on_member: is called for each result as soon as it is there.

  Returns:
    The ensemble on the images that can be decoded.

  Raises:
    UserError: the members know other classes, or than the images have; no image can be decoded; or
      an answer is no finite number.
  """
  for member in members:
    crops(member.description.preprocessing.crop)  # an error now, and not after the other members
  names, orders = _match_classes(members)
  images, note = relabel.by_name(images, names)
  if note and hosts.is_main():
    inform(f"Note: {note}")
  results: list[Result] = []
  probabilities: list[np.ndarray] = []
  numbers = labels = np.zeros(0, np.int64)
  for member, order in zip(members, orders, strict=True):
    step, answers = _answers(member, mesh, images, batch_size, crops)
    if not results:
      numbers, labels = answers.numbers, answers.labels
      tell_left_out(len(labels), images)
    elif not np.array_equal(answers.numbers, numbers):
      raise UserError(
        f"Of the images some can be read for one of '{members[0].name}' and '{member.name}' alone; "
        "see that nothing changes them, and give the same command again."
      )
    probabilities.append(answers.values[:, order])
    metrics = ensembles.evaluate(probabilities[-1], labels)
    results.append(Result(member.name, step, member.description.preprocessing, metrics))
    on_member(results[-1])
  return Ensemble(results, labels, probabilities)


def _match_classes(members: Sequence[Member]) -> tuple[Sequence[str], list[np.ndarray]]:
  """The classes' names, and where each of them stands in the answers of each member.

  Names that are not known are taken for those of another member, which is said.
  """
  of_names = next((each for each in members if each.description.class_names), members[0])
  names, count = of_names.description.class_names, of_names.description.num_classes
  orders = []
  for member in members:
    own, own_count = member.description.class_names, member.description.num_classes
    positions: Sequence[int] | None = None
    if own_count == count:
      positions = class_names.positions(names, own) if own else range(count)
    if positions is None:
      raise UserError(
        f"'{member.name}' has other classes than '{of_names.name}': "
        f"{_difference(member.description, of_names.description)}. Leave it out, or choose "
        "networks of the same classes."
      )
    if not own and member is not of_names and hosts.is_main():
      inform(
        f"Note: the names of the classes of '{member.name}' are not known; they are taken for "
        f"those of '{of_names.name}', in its order."
      )
    orders.append(np.array(positions))
  return names, orders


def _difference(network: ModelDescription, other: ModelDescription) -> str:
  if network.num_classes != other.num_classes:
    return f"{network.num_classes}, not {other.num_classes}"
  if missing := class_names.missing(other.class_names, network.class_names):
    return f"it lacks {class_names.listed(missing)}"
  return "two of them have the same name"


def _answers(
  member: Member,
  mesh: Mesh,
  images: Split,
  batch_size: int | None,
  crops: Callable[[EvaluationCrop], Crop],
) -> tuple[int, Probabilities]:
  """The step of a member's checkpoint, and what it says."""
  model = model_directory.load(member.path, mesh, member.step)
  config = member.config.copy_and_resolve_references()
  config.eval_batch_size = batch_size or config.eval_batch_size
  train_split = None
  if needs_population_statistics(config):
    data = member.trained_on
    train_split = hosts.in_all(
      lambda: open_split(data.name, data.train_split, data.dir, data.split_seed)
    )
  preprocessing = member.description.preprocessing
  evaluator = Evaluator(model.network, config, mesh, preprocessing, images, train_split)
  answers = evaluator.probabilities(model.variables, crops)
  if not np.isfinite(answers.values).all():
    raise UserError(
      f"The answers of '{member.name}' to some images are no finite numbers; choose another "
      "checkpoint, or leave it out."
    )
  jax.clear_caches()  # no other member has the same programs
  freed_memory.give_back()
  return model.step, answers
