"""Evaluation of a network on a whole split, exact for any batch size and number of devices."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import Batch, Crop, eval_batches, train_batches
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.data.sources import Split
from speedpaper_jax.data.ten_crops import TenCrops
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.models.batch_norm import recompute_population_statistics
from speedpaper_jax.steps import build
from speedpaper_jax.steps.step import (
  make_answers_step,
  make_eval_step,
  make_moments_step,
  make_probabilities_step,
)

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Answers:
  """What a network says of each image of a split that can be decoded; arrays [N].

  Attributes:
    numbers: of the images in the split.
    label: their classes.
    predicted: the most probable class.
    probability: of the predicted class.
    class_probability: of the image's own.
  """

  numbers: np.ndarray
  label: np.ndarray
  predicted: np.ndarray
  probability: np.ndarray
  class_probability: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probabilities:
  """What a network says of every class, for each image of a split that can be decoded.

  Attributes:
    numbers: [N], of the images in the split.
    labels: [N], their classes.
    values: [N, classes], float32; of several crops the mean.
  """

  numbers: np.ndarray
  labels: np.ndarray
  values: np.ndarray


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
    """
    self._config = config
    self._mesh = mesh
    self._crop = preprocessing.crop
    self._eval_split = eval_split
    self._train_split = train_split
    if config.evaluate_ten_crops:
      TenCrops(self._crop)  # an error now, and not after the last step
    normalization = preprocessing.normalization
    self._answers_step = parallel.jit_on_mesh(make_answers_step(network, normalization), mesh)
    self._eval_step = parallel.jit_on_mesh(make_eval_step(network, normalization), mesh)
    probabilities_step = make_probabilities_step(network, normalization)
    self._probabilities_step = parallel.jit_on_mesh(probabilities_step, mesh)
    self._moments_step = parallel.jit_on_mesh(make_moments_step(network, normalization), mesh)

  def __call__(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> dict[str, float]:
    """Evaluates on the whole split.

    Args:
      variables: `params` and `batch_stats`.
      on_batch: is called for each batch, once the one before has been evaluated; what it raises
        ends the evaluation.

    Returns:
      `top1` and `top5` as fractions, `loss` in nats, and `count`, the number of images.

    Raises:
      UserError: no image can be decoded.
    """
    return self._evaluate(variables, self._eval_split, self._crop, on_batch)

  def on_ten_crops(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> dict[str, float]:
    """The same with the mean of the probabilities of ten crops of each image."""
    return self._evaluate(variables, self._eval_split, TenCrops(self._crop), on_batch)

  def answers(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> Answers:
    """What the network says of each image; arguments and errors as of the evaluation."""
    rows = self._rows(self._answers_step, variables, self._crop, on_batch)
    return Answers(**rows)

  def probabilities(
    self,
    variables: Mapping[str, PyTree],
    crops: Callable[[EvaluationCrop], Crop] = lambda crop: crop,
    on_batch: Callable[[], None] = lambda: None,
  ) -> Probabilities:
    """The probabilities of all classes for each image.

    Args:
      variables: `params` and `batch_stats`.
      crops: makes of the preprocessing's crop the one or several that are averaged, such as
        `TenCrops`.
      on_batch: as of the evaluation.
    """
    crop = crops(self._crop)
    rows = self._rows(self._probabilities_step, variables, crop, on_batch)
    return Probabilities(rows["numbers"], rows["label"], rows["probabilities"])

  def _rows(
    self,
    step: Callable[..., PyTree],
    variables: Mapping[str, PyTree],
    crop: Crop,
    on_batch: Callable[[], None],
  ) -> dict[str, np.ndarray]:
    """What a step says of each image that can be decoded, with the images' `numbers`."""
    rows: dict[str, list[np.ndarray]] = {}
    for answers in self._each(step, variables, self._eval_split, crop, on_batch):
      for name, values in jax.device_get(answers).items():
        rows.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in rows.items()}
    numbers = np.flatnonzero(joined.pop("mask"))
    return {"numbers": numbers, **{name: values[numbers] for name, values in joined.items()}}

  def on_training_images(
    self, variables: Mapping[str, PyTree], on_batch: Callable[[], None] = lambda: None
  ) -> dict[str, float]:
    """The same on the training images: cropped for evaluation, not augmented."""
    assert self._train_split is not None
    return self._evaluate(variables, self._train_split, self._crop, on_batch)

  def _evaluate(
    self,
    variables: Mapping[str, PyTree],
    split: Split,
    crop: Crop,
    on_batch: Callable[[], None],
  ) -> dict[str, float]:
    sums = list(self._each(self._eval_step, variables, split, crop, on_batch))
    # Summed on the host in float64: in float32 a count is no longer exact beyond 2^24 images.
    total = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(sums))
    count = total.pop("count")
    tell_left_out(int(count), split)
    return {name: value / count for name, value in total.items()} | {"count": int(count)}

  def _each(
    self,
    step: Callable[..., PyTree],
    variables: Mapping[str, PyTree],
    split: Split,
    crop: Crop,
    on_batch: Callable[[], None],
  ) -> Iterator[PyTree]:
    """What a step gives for each batch of a split."""
    if needs_population_statistics(self._config):
      variables = {**variables, "batch_stats": self._population_statistics(variables)}
    crops = math.prod(crop.shape[:-3])  # to an image; the devices have the memory for so many
    batches = eval_batches(
      split,
      crop=crop,
      batch_size=divisible_batch_size(-(-self._config.eval_batch_size // crops), self._mesh),
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    before = None
    with contextlib.closing(batches):  # `on_batch` may end it before the last batch
      for batch in self._on_devices(batches):
        result = step(variables, batch)
        # At most two batches wait on the devices, whose memory they take.
        jax.block_until_ready(before)
        on_batch()
        yield result
        before = result

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
