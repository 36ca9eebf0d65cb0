"""A recipe: all numbers that a network is trained on ImageNet with, and how a config takes them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from speedpaper_jax.config.data_sets import DATA_SETS

# Of the recipes on small data sets.
SMALL_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Exponential:
  """The learning rate falls to `factor` of itself every `interval` epochs.

  Attributes:
    factor: below 1.
    interval: in epochs, at whose end it falls at once.
    warmup: epochs in which the rate rises from zero; the falls are counted from the beginning.
  """

  factor: float
  interval: float
  warmup: float = 0


@dataclasses.dataclass(frozen=True)
class Cosine:
  """The learning rate falls to zero as a cosine over the whole run.

  Attributes:
    warmup: epochs in which the rate rises from zero.
  """

  warmup: float = 0


@dataclasses.dataclass(frozen=True)
class Expected:
  """What a run of the whole recipe should reach on ImageNet.

  Attributes:
    top1: accuracy in percent of one crop of the validation images.
    tolerance: in percent; a run that is farther away is wrong. Ours.
    source: who published it.
  """

  top1: float
  tolerance: float
  source: str


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a network is trained on ImageNet.

  Attributes:
    batch_size: images of a step, over all replicas.
    replicas: parts of the batch, each normalised by itself.
    optimizer: "sgd" with momentum 0.9, or "rmsprop" with decay 0.9, momentum 0.9 and ε = 1.
    learning_rate: of this batch; it grows in proportion to the batch.
    schedule: of the rate.
    epochs: length of training.
    batch_norm_decay: of the moving averages of statistics, in a step of this batch.
    average_decay: of the average of the weights, likewise; 0 for none.
    l2: ½·l2·‖w‖² in the loss, kernels only.
    label_smoothing: ε.
    sources: where the numbers come from, by what they are of.
    expected: what a whole run reaches; None where nobody has published it.
    expected_curve: its accuracy against epochs, a name of `papers.expected_accuracies`; "" if none
      was published.
    changes: further fields of the config, by dotted names.
  """

  batch_size: int
  replicas: int
  optimizer: str
  learning_rate: float
  schedule: Exponential | Cosine
  epochs: float
  batch_norm_decay: float
  average_decay: float
  l2: float
  label_smoothing: float
  sources: Mapping[str, str]
  expected: Expected | None = None
  expected_curve: str = ""
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def statistics_group(self) -> int:
    """Images that are normalised together."""
    return self.batch_size // self.replicas


def apply(
  config: ml_collections.ConfigDict, recipe: Recipe, data: str, epochs: float | None = None
) -> None:
  """Sets what a recipe says.

  On a small data set the run is shorter and goes through the same rates in its own time, in batches
  of 32, without what belongs to ImageNet alone: the decays are the data set's and the average's of
  such a batch, and there is neither a curve nor another change.

  Args:
    config: of training, with its data set chosen.
    recipe: for ImageNet.
    data: a key of `DATA_SETS`.
    epochs: length of training; the data set's own by default, and on ImageNet the recipe's.
  """
  own = DATA_SETS[data].epochs
  is_imagenet = own is None
  epochs = epochs or own or recipe.epochs
  config.batch_size = recipe.batch_size if is_imagenet else SMALL_BATCH
  config.duration = f"{epochs:g} epochs"
  # The papers' statistics are those of one replica's images, whatever the number of replicas.
  config.batch_norm.statistics = "group"
  config.batch_norm.virtual_batch_size = recipe.statistics_group
  config.average_decay = recipe.average_decay
  config.decay_batch_size = config.batch_size
  config.label_smoothing = recipe.label_smoothing

  optimizer = config.optimizer
  optimizer.name = recipe.optimizer
  optimizer.learning_rate = recipe.learning_rate
  optimizer.base_batch_size = recipe.batch_size
  optimizer[recipe.optimizer].momentum = 0.9
  if recipe.optimizer == "rmsprop":
    optimizer.rmsprop.decay = 0.9
    optimizer.rmsprop.eps = 1.0
  optimizer.l2 = recipe.l2

  schedule = recipe.schedule
  if isinstance(schedule, Exponential):
    optimizer.schedule.name = "exponential"
    optimizer.schedule.factor = schedule.factor
    optimizer.schedule.interval = f"{schedule.interval * epochs / recipe.epochs:.6g} epochs"
    optimizer.schedule.staircase = is_imagenet
  else:
    optimizer.schedule.name = "cosine"
  if is_imagenet:
    if schedule.warmup:
      optimizer.schedule.warmup = f"{schedule.warmup:g} epochs"
    config.batch_norm.decay = recipe.batch_norm_decay
    config.expected_curve = recipe.expected_curve
    config.update_from_flattened_dict(dict(recipe.changes))
