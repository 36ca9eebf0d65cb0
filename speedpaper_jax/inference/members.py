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
from speedpaper_jax.data import class_names, relabel, sources
from speedpaper_jax.data.averaged_crops import ONE, AveragedCrops
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.records import name_of
from speedpaper_jax.data.sources import Split
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError, inform, inform_once
from speedpaper_jax.inference import ensembles, model_directory, unfinished
from speedpaper_jax.inference.ensembles import ByCount
from speedpaper_jax.inference.evaluation import (
  Answers,
  Evaluator,
  needs_population_statistics,
  tell_left_out,
)
from speedpaper_jax.inference.model_directory import ModelDescription
from speedpaper_jax.inference.right_classes import RightClasses
from speedpaper_jax.inference.unfinished import Unfinished

PyTree = Any

_CONTINUES = "The same command continues."


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
class EvaluationProtocol:
  """How networks are evaluated.

  Attributes:
    crops: of an image, whose probabilities are averaged.
    batch_size: of the network, crops at a time; None for each member's own in evaluation.
    averaged: whether to take the moving average of the weights where there is one.
    among: names of the classes that an image may be of; None for all. The others' probabilities
      are zero.
    right: classes of each image of which any is right, by the numbers of `relabelled`; None for the
      label alone.
  """

  crops: AveragedCrops = ONE
  batch_size: int | None = None
  averaged: bool = True
  among: Sequence[str] | None = None
  right: Sequence[Sequence[int]] | None = None


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

  def to_json(self) -> dict[str, Any]:
    """All of it, the metrics side by side with the rest."""
    return {
      "name": self.name,
      "step": self.step,
      "preprocessing": self.preprocessing.to_json(),
      **self.metrics,
    }


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Members that were evaluated on the same images, and their mean.

  Attributes:
    members: what each gives by itself, in their order.
    class_names: of the network's classes, in the order of the probabilities; may be empty.
    numbers: int [N], of the images that can be decoded.
    right: the classes that are right for each of these.
    log_probabilities: of each member [N, classes], at least float32, the classes in one order.
  """

  members: Sequence[Result]
  class_names: Sequence[str]
  numbers: np.ndarray
  right: RightClasses
  log_probabilities: Sequence[np.ndarray]

  @functools.cached_property
  def average(self) -> np.ndarray:
    """Logarithms of the mean of the probabilities, [N, classes]."""
    if len(self.log_probabilities) == 1:
      return self.log_probabilities[0]
    return ensembles.average(self.log_probabilities)

  @functools.cached_property
  def metrics(self) -> dict[str, float]:
    """Of the mean of the probabilities, as of `ensembles.evaluate`."""
    return ensembles.evaluate(self.average, self.right)

  @functools.cached_property
  def by_count(self) -> list[ByCount]:
    """How the error falls with the number of members."""
    return ensembles.by_count(self.log_probabilities, self.right)

  def to_json(self) -> dict[str, Any]:
    """All results: `members`, `ensemble` and `by_count`."""
    return {
      "members": [member.to_json() for member in self.members],
      "ensemble": self.metrics,
      "by_count": [dataclasses.asdict(row) for row in self.by_count],
    }

  def arrays(self) -> dict[str, np.ndarray]:
    """What a file of probabilities holds: those of each of the `members`, and the `labels`.

    Of several right classes an image's label is the first.
    """
    return {
      "labels": self.right.first,
      "probabilities": np.exp(np.stack(self.log_probabilities)),
      "members": np.array([member.name for member in self.members]),
    }


def read(
  name: str,
  path: pathlib.Path,
  step: int | None = None,
  trained_on: ml_collections.ConfigDict | None = None,
  *,
  statistics: str | None = None,
  **crop: Any,
) -> Member:
  """Reads what is known of a network without its weights.

  Args:
    name: what it is called.
    path: of its directory.
    step: of the checkpoint; None for the newest.
    trained_on: see `Member`; its config's own by default.
    statistics: of batch normalization, "moving_average" or "population"; its config's own by
      default.
    **crop: fields of `EvaluationCrop`; None for its own.

  Raises:
    UserError: a file is missing or damaged, there is no checkpoint, the network gives features, or
      it does not fit images of that size.
  """
  config, description = model_directory.load_config(path), model_directory.load_description(path)
  hosts.from_main(lambda: model_directory.check_has_checkpoint(path))
  if not description.num_classes:
    raise UserError(f"The network in '{path}' gives features, not classes, to evaluate.")
  config.batch_norm.inference = statistics or config.batch_norm.inference
  try:
    description = model_directory.describe_with_crop(config, description, **crop)
  except UserError as error:
    raise UserError(f"'{name}': {error}") from error
  return Member(name, path, step, config, description, trained_on or config.data)


def relabelled(members: Sequence[Member], images: Split) -> Split:
  """Images with the numbers that the members give to their classes, in whatever order they come.

  Raises:
    UserError: the members know other classes than each other, or than the images have.
  """
  names, _ = _match_classes(members)
  images, note = relabel.by_name(images, names)
  if note and hosts.is_main():
    inform(f"Note: {note}")
  return images


def evaluate(
  members: Sequence[Member],
  mesh: Mesh,
  images: Split,
  protocol: EvaluationProtocol | None = None,
  *,
  on_images: Callable[[Member, int], None] = lambda member, done: None,
  on_member: Callable[[Result], None] = lambda result: None,
) -> Ensemble:
  """Evaluates networks one after the other, and averages their probabilities.

  What is done is kept in the user's cache until all is, so that the same call continues.

  Args:
    members: one or more, of the same classes in whatever order.
    mesh: the devices.
    images: to evaluate on.
    protocol: how; one crop and all classes by default.
    on_images: is called with a member and the number of images that are done for it, now and then.
    on_member: is called for each result as soon as it is there.

  Returns:
    The ensemble on the images that can be decoded.

  Raises:
    UserError: the members know other classes, or than the images have; no image can be decoded; or
      an answer is no finite number.
    Interrupted: a stop was requested; the same call continues.
  """
  protocol = protocol or EvaluationProtocol()
  for member in members:
    protocol.crops.of(member.description.preprocessing.crop)  # an error now, not after the others
  names, orders = _match_classes(members)
  images = relabelled(members, images)
  done: list[Unfinished] = []
  results: list[Result] = []
  log_probabilities: list[np.ndarray] = []
  numbers = np.zeros(0, np.int64)
  right = RightClasses.one_each(numbers)
  for member, order in zip(members, orders, strict=True):
    step, answers, kept = _answers(member, order, mesh, images, protocol, on_images)
    done.append(kept)
    if not results:
      numbers = answers.numbers
      tell_left_out(len(numbers), images)
      right = _right_classes(answers, protocol)
      _check_among(protocol, images, numbers, right)
    elif not np.array_equal(answers.numbers, numbers):
      raise UserError(
        f"Of the images some can be read for one of '{members[0].name}' and '{member.name}' alone; "
        "see that nothing changes them, and give the same command again."
      )
    log_probabilities.append(answers.log_probabilities[:, order])
    metrics = ensembles.evaluate(log_probabilities[-1], right)
    results.append(Result(member.name, step, member.description.preprocessing, metrics))
    on_member(results[-1])
  for each in done:
    each.remove()
  return Ensemble(results, names, numbers, right, log_probabilities)


def _right_classes(answers: Answers, protocol: EvaluationProtocol) -> RightClasses:
  """Of the images that could be decoded."""
  if protocol.right is None:
    return RightClasses.one_each(answers.labels)
  return RightClasses.several([protocol.right[number] for number in answers.numbers])


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
    if not own and member is not of_names:
      inform_once(
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


def _check_among(
  protocol: EvaluationProtocol, images: Split, numbers: np.ndarray, right: RightClasses
) -> None:
  """Raises a UserError if an image is of a class whose probability was made zero."""
  if protocol.among is None:
    return
  possible = class_names.positions(protocol.among, images.class_names) or ()
  outside = np.flatnonzero(~np.isin(right.classes, possible))
  if outside.size:
    image, label = right.images[outside[0]], right.classes[outside[0]]
    raise UserError(
      f"The class '{images.class_names[label]}' of {name_of(images.records, numbers[image])} is "
      f"none of the {len(protocol.among)} that these images are known to be of; prepare the data "
      "set again."
    )


def _answers(
  member: Member,
  order: np.ndarray,
  mesh: Mesh,
  images: Split,
  protocol: EvaluationProtocol,
  on_images: Callable[[Member, int], None],
) -> tuple[int, Answers, Unfinished]:
  """The step of a member's checkpoint, what it says, and where that is kept."""
  config = member.config.copy_and_resolve_references()
  model = model_directory.load(
    member.path,
    mesh,
    member.step,
    averaged=protocol.averaged,
    statistics=config.batch_norm.inference,
  )
  config.eval_batch_size = protocol.batch_size or config.eval_batch_size
  train_split = None
  if needs_population_statistics(config):
    data = member.trained_on
    train_split = hosts.in_all(
      lambda: sources.open_split(data.name, data.train_split, data.dir, data.split_seed)
    )
  among = _among(member, order, images, protocol)
  evaluator = Evaluator(
    model.network,
    config,
    mesh,
    member.description.preprocessing,
    images,
    train_split,
    among,
    folds=True,
  )
  kept = Unfinished(lambda: _digest(member, model.variables, images, protocol))
  start, pieces = kept.restore()
  if start and hosts.is_main():
    inform(f"Continuing '{member.name}' after {start:,} of {len(images):,} images.")
  done = start
  with hosts.stop_requests() as stop:

    def on_batch() -> None:
      stopping = stop.requested(f"{done:,} of {len(images):,} images", _CONTINUES)
      if stopping is not None:
        kept.save(done)
        raise stopping

    if start < len(images):
      for done, piece in evaluator.pieces(model.variables, protocol.crops, start, on_batch):
        pieces.append(piece)
        kept.add(piece, done)
        on_images(member, done)
    kept.end(done)
  answers = Answers.join(pieces)
  possible = slice(None) if among is None else np.flatnonzero(among)
  if not np.isfinite(answers.log_probabilities[:, possible]).all():
    kept.remove()
    raise UserError(
      f"The answers of '{member.name}' to some images are no finite numbers; choose another "
      "checkpoint, or leave it out."
    )
  jax.clear_caches()  # no other member has the same programs
  freed_memory.give_back()
  return model.step, answers, kept


def _among(
  member: Member, order: np.ndarray, images: Split, protocol: EvaluationProtocol
) -> np.ndarray | None:
  """The classes that are possible, in the member's own order."""
  if protocol.among is None:
    return None
  possible = class_names.positions(protocol.among, images.class_names)
  if possible is None:
    missing = class_names.missing(protocol.among, images.class_names)
    raise UserError(f"The network has no class {class_names.listed(missing)}.")
  mask = np.zeros(member.description.num_classes, bool)
  mask[order[np.array(possible)]] = True
  return mask


def _digest(member: Member, variables: PyTree, images: Split, protocol: EvaluationProtocol) -> str:
  """Of all that the member's answers depend on."""
  config = member.config.to_dict()
  return unfinished.digest(
    variables,
    config={section: config[section] for section in ("model", "batch_norm")},
    trained_on=member.trained_on.to_dict(),
    description=member.description.to_json(),
    images=[images.records.digest(), *images.class_names],
    crops=dataclasses.asdict(protocol.crops),
    among=protocol.among and list(protocol.among),
  )
