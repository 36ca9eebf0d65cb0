"""Evaluation of a network on a whole split, exact for any batch size and number of devices."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from speedpaper_jax.data.averaged_crops import ONE, AveragedCrops, Sheets
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import Batch, eval_batches, train_batches
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split
from speedpaper_jax.data.windows import Windows
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.inference.ensembles import Sums
from speedpaper_jax.inference.right_classes import RightClasses
from speedpaper_jax.models.batch_norm import recompute_population_statistics
from speedpaper_jax.steps import build
from speedpaper_jax.steps.evaluation import make_answers_step, make_moments_step

PyTree = Any
TEN = AveragedCrops(10)


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
  """What a network says of each image that can be decoded.

  Attributes:
    numbers: int [N], of the images in the split, rising.
    labels: int [N], their classes.
    log_probabilities: [N, classes], at least float32, natural logarithms; of several crops of the
      mean.
  """

  numbers: np.ndarray
  labels: np.ndarray
  log_probabilities: np.ndarray

  @classmethod
  def join(cls, pieces: Sequence["Answers"]) -> "Answers":
    """Those of all images; there is one piece at least."""
    fields = [field.name for field in dataclasses.fields(cls)]
    return cls(*(np.concatenate([getattr(each, name) for each in pieces]) for name in fields))

  @property
  def predicted(self) -> np.ndarray:
    """The most probable class of each image, int [N]."""
    return np.argmax(self.log_probabilities, -1)

  def probability_of(self, classes: np.ndarray) -> np.ndarray:
    """Of one class of each image, int [N]: [N]."""
    return np.exp(self.log_probabilities[np.arange(len(classes)), classes])


class Evaluator:
  """Evaluates a network; its steps are compiled once."""

  def __init__(
    self,
    network: nn.Module,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    preprocessing: Preprocessing,
    eval_split: Split,
    train_split: Split | None = None,
    among: np.ndarray | None = None,
    folds: bool = False,
  ) -> None:
    """Prepares the evaluation.

    Args:
      network: in the form for inference, see `build.build_inference_model`.
      config: of training.
      mesh: the devices.
      preprocessing: of the images to evaluate on; training images share its normalisation.
      eval_split: what to evaluate on.
      train_split: for the population statistics, where the config asks for them, and for
        `on_training_images`; else it may be None.
      among: bool [num_classes], the classes that an image may be of; None for all.
      folds: whether the answers are those of the network with its batch normalizations folded,
        see `folding`: the work of a moment, which is worth it where variables are evaluated once.
    """
    self._network = network
    self._folds = folds
    self._config = config
    self._mesh = mesh
    self._crop = preprocessing.crop
    self._eval_split = eval_split
    self._train_split = train_split
    if config.evaluate_ten_crops:
      TEN.of(self._crop)  # an error now, and not after the last step
    normalization = preprocessing.normalization

    @functools.cache
    def answers_step(network: nn.Module, crops: AveragedCrops) -> Callable[..., PyTree]:
      step = make_answers_step(network, normalization, _windows(crops.of(self._crop)), among)
      return parallel.jit_on_mesh(step, mesh)

    self._answers_step = answers_step
    self._moments_step = parallel.jit_on_mesh(make_moments_step(network, normalization), mesh)

  def __call__(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> dict[str, float]:
    """Evaluates on the whole split, one crop an image.

    Args:
      variables: `params` and `batch_stats`.
      on_batch: is called for each batch, once the one before has been evaluated; what it raises
        ends the evaluation.

    Returns:
      `top1` and `top5` as fractions, `loss` in nats, and `count`, the number of images.

    Raises:
      UserError: no image can be decoded.
    """
    return self._metrics(variables, self._eval_split, ONE, on_batch)

  def on_ten_crops(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> dict[str, float]:
    """The same with the mean of the probabilities of ten crops of each image."""
    return self._metrics(variables, self._eval_split, TEN, on_batch)

  def on_training_images(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> dict[str, float]:
    """The same on the training images: cropped for evaluation, not augmented."""
    assert self._train_split is not None
    return self._metrics(variables, self._train_split, ONE, on_batch)

  def answers(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> Answers:
    """What the network says of each image, by one crop; arguments and errors as of `__call__`."""
    return Answers.join([piece for _, piece in self.pieces(variables, on_batch=on_batch)])

  def pieces(
    self,
    variables: Mapping[str, PyTree],
    crops: AveragedCrops = ONE,
    start: int = 0,
    on_batch: Callable[[], None] = lambda: None,
  ) -> Iterator[tuple[int, Answers]]:
    """What the network says of the images, batch by batch.

    Args:
      variables: `params` and `batch_stats`.
      crops: of an image, whose probabilities are averaged.
      start: images that are passed over; fewer than there are.
      on_batch: as of `__call__`.

    Yields:
      The number of images that are passed now, and the answers to those since the last time.

    Raises:
      UserError: ten crops are all the same.
    """
    return self._pieces(variables, self._eval_split, crops, start, on_batch)

  def _metrics(
    self,
    variables: Mapping[str, PyTree],
    split: Split,
    crops: AveragedCrops,
    on_batch: Callable[[], None],
  ) -> dict[str, float]:
    sums = Sums()
    for _, piece in self._pieces(variables, split, crops, 0, on_batch):
      sums += Sums.of(piece.log_probabilities, RightClasses.one_each(piece.labels))
    tell_left_out(sums.count, split)
    return sums.metrics()

  def _pieces(
    self,
    variables: Mapping[str, PyTree],
    split: Split,
    crops: AveragedCrops,
    start: int,
    on_batch: Callable[[], None],
  ) -> Iterator[tuple[int, Answers]]:
    """The answers to each batch, one batch late: the devices have their next one already."""
    if needs_population_statistics(self._config):
      variables = {**variables, "batch_stats": self._population_statistics(variables)}
    network = self._network
    if self._folds:
      network, variables = build.fold_batch_norm(network, variables, self._mesh)
    crop = crops.of(self._crop)
    windows = _windows(crop)
    at_once = 1 if windows is None else windows.crops_of_a_sheet
    batch_size = min(-(-self._config.eval_batch_size // at_once), len(split))
    rows = divisible_batch_size(batch_size, self._mesh)
    batches = eval_batches(
      split,
      crop=crop,
      batch_size=rows,
      start=start,
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    step, before = self._answers_step(network, crops), None
    with contextlib.closing(batches):  # `on_batch` may end it before the last batch
      for first, batch in zip(itertools.count(start, rows), self._on_devices(batches)):
        result = (first, step(variables, batch))
        if before is not None:
          yield first, _whole(*before)
        on_batch()
        before = result
      if before is not None:
        yield len(split), _whole(*before)

  def _population_statistics(self, variables: Mapping[str, PyTree]) -> PyTree:
    """Algorithm 2 over the first mini-batches of training."""
    assert self._train_split is not None
    batches = train_batches(
      self._train_split,
      image_size=self._config.data.image_size,
      batch_size=self._config.batch_size,
      seed=self._config.seed,
      augmentation=build.build_augmentation(self._config),
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    with contextlib.closing(batches):  # they are endless, and threads prefetch them
      statistics = recompute_population_statistics(
        lambda batch: self._moments_step(variables, batch),
        itertools.islice(self._on_devices(batches), self._config.batch_norm.population_batches),
      )
    # What is frozen has its statistics.
    before, after = map(traverse_util.flatten_dict, (variables["batch_stats"], statistics))
    return traverse_util.unflatten_dict(before | after)

  def _on_devices(self, batches: Iterable[Batch]) -> Iterator[Any]:
    return (parallel.shard_batch(self._mesh, batch) for batch in batches)


def _windows(crop: EvaluationCrop | Sheets) -> Windows | None:
  return None if isinstance(crop, EvaluationCrop) else crop.windows


def _whole(first: int, on_devices: PyTree) -> Answers:
  """What a batch from image `first` on says of those that can be decoded."""
  rows = jax.device_get(on_devices)
  there = np.flatnonzero(rows["mask"])
  return Answers(first + there, rows["label"][there], rows["log_probabilities"][there])


def tell_left_out(count: int, split: Split) -> None:
  """Says how many images of a split were left out, where only `count` could be decoded.

  Raises:
    UserError: none could.
  """
  if not count:
    raise UserError("None of the images to evaluate on can be decoded.")
  if count < len(split) and jax.process_index() == 0:
    warn(
      f"{len(split) - count:,} of the {len(split):,} images cannot be decoded, and the "
      "evaluation leaves them out."
    )


def needs_population_statistics(config: ml_collections.ConfigDict) -> bool:
  """Whether evaluation takes its batch statistics from training images, by Algorithm 2."""
  return config.batch_norm.enabled and config.batch_norm.inference == "population"


def divisible_batch_size(batch_size: int, mesh: Mesh) -> int:
  """`batch_size`, rounded up until every device gets equally many rows; padding fills them."""
  return -(-batch_size // mesh.size) * mesh.size
