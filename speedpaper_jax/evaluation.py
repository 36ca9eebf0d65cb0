"""Evaluation of a network on a whole split, exact for any batch size and number of devices."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax import build, parallel
from speedpaper_jax.data.pipeline import Batch, eval_batches, train_batches
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError
from speedpaper_jax.models.batch_norm import recompute_population_statistics
from speedpaper_jax.step import make_eval_step, make_moments_step

PyTree = Any


class Evaluator:
  """Evaluates the network of a config; its steps are compiled once."""

  def __init__(
    self, config: ml_collections.ConfigDict, mesh: Mesh, train_split: Split, eval_split: Split
  ) -> None:
    """Prepares the evaluation.

    Args:
      config: of training.
      mesh: the devices.
      train_split: for the population statistics, where the config asks for them.
      eval_split: what to evaluate on.
    """
    self._config = config
    self._mesh = mesh
    self._train_split = train_split
    self._eval_split = eval_split
    model = build.build_inference_model(config, train_split.num_classes, mesh)
    self._eval_step = parallel.jit_on_mesh(make_eval_step(model), mesh)
    self._moments_step = parallel.jit_on_mesh(make_moments_step(model), mesh)

  def __call__(self, variables: Mapping[str, PyTree]) -> dict[str, float]:
    """Evaluates on the whole split.

    Args:
      variables: `params` and `batch_stats`.

    Returns:
      `top1` and `top5` as fractions, `loss` in nats, and `count`, the number of images.

    Raises:
      UserError: no image can be decoded.
    """
    if self._config.batch_norm.enabled and self._config.batch_norm.inference == "population":
      variables = {**variables, "batch_stats": self._population_statistics(variables)}
    batches = eval_batches(
      self._eval_split,
      image_size=self._config.data.image_size,
      batch_size=divisible_batch_size(self._config.eval_batch_size, self._mesh),
      central_fraction=self._config.data.eval_central_fraction,
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    sums = [self._eval_step(variables, batch) for batch in self._on_devices(batches)]
    # Summed on the host in float64: in float32 a count is no longer exact beyond 2^24 images.
    total = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(sums))
    count = total.pop("count")
    if not count:
      raise UserError("None of the images of the evaluation split can be decoded.")
    return {name: value / count for name, value in total.items()} | {"count": int(count)}

  def _population_statistics(self, variables: Mapping[str, PyTree]) -> PyTree:
    """Algorithm 2 over the first mini-batches of training."""
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
      return recompute_population_statistics(
        lambda batch: self._moments_step(variables, batch),
        itertools.islice(self._on_devices(batches), self._config.batch_norm.population_batches),
      )

  def _on_devices(self, batches: Iterable[Batch]) -> Iterator[Any]:
    return (parallel.shard_batch(self._mesh, batch) for batch in batches)


def divisible_batch_size(batch_size: int, mesh: Mesh) -> int:
  """`batch_size`, rounded up until every device gets equally many rows; padding fills them."""
  return -(-batch_size // mesh.size) * mesh.size
