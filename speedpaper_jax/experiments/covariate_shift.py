"""Internal covariate shift in Inception with and without BN, trained on the same batches."""

import time
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections
import numpy as np

from speedpaper_jax.config import ranges
from speedpaper_jax.data import in_memory
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.distributed import parallel
from speedpaper_jax.experiments import nonlinearity_statistics, side_by_side
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide
from speedpaper_jax.files.rules import ABOVE_ZERO, IMAGE_SIZE, Rule
from speedpaper_jax.models import registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.steps import build
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of configs/covariate_shift.py may be.
RULES: Mapping[str, Rule] = {
  **side_by_side.RULES,
  **side_by_side.DATA_RULES,
  "data.image_size": IMAGE_SIZE,
  "optimizer.learning_rate": ABOVE_ZERO,
  "steps": side_by_side.STEPS,
  "measure_every": side_by_side.STEPS,
  "measured_examples": side_by_side.NORMALIZED_ROWS,
}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains the network of Figure 5 without BN and with it.

  Args:
    config: of configs/covariate_shift.py.
    directory: of the run.

  Returns:
    The summary: `steps`, `seconds`, the names of `layers`, and for each of `networks` its `top1` on
    held-out images at the end, and the medians over layers and measurements of its `drift` and
    its `unnormalized_drift`.
    arrays.npz has, a row for each of T measurements, `step` [T], and for each network `NAME/top1`
    [T] and `NAME/mean`, `NAME/std`, `NAME/drift` and `NAME/unnormalized_drift` [T, layers], as
    `nonlinearity_statistics.by_layer` has them.

  Raises:
    UserError: the data set is not there, the config is wrong, or the directory cannot be written.
  """
  began = time.monotonic()
  ranges.check_fields(config, RULES, "covariate_shift")
  nonlinearity_statistics.check_config(config)
  train, test = (
    _images(config, split) for split in (config.data.train_split, config.data.eval_split)
  )
  comparison = SideBySide(
    networks(config, num_classes=int(jnp.max(train.targets)) + 1),
    side_by_side.build_optimizer(config),
    side_by_side.cross_entropy,
    program_steps=1,
  )
  directory.start_anew(config)
  measurements = [
    measurement
    for measurement, _ in nonlinearity_statistics.train_and_measure(config, comparison, train, test)
  ]
  arrays = nonlinearity_statistics.stack(measurements)
  directory.save_config(config)  # in the place of that of a run that did not end
  directory.write_arrays(arrays)
  return {
    "steps": int(arrays["step"][-1]),
    "seconds": time.monotonic() - began,
    "layers": nonlinearity_statistics.layer_names(comparison.networks["with"], train.inputs[:2]),
    "networks": {
      name: {
        "top1": float(arrays[f"{name}/top1"][-1]),
        "drift": float(np.median(arrays[f"{name}/drift"])),
        "unnormalized_drift": float(np.median(arrays[f"{name}/unnormalized_drift"])),
      }
      for name in comparison.networks
    },
  }


def networks(config: ml_collections.ConfigDict, num_classes: int) -> dict[str, nn.Module]:
  """Both without dropout and local response normalization, so that they differ in BN alone."""
  operations = build.build_operations(parallel.make_mesh())

  def network(batch_norm: BatchNorm | None) -> nn.Module:
    settings = LayerSettings(batch_norm=batch_norm, operations=operations)
    return registry.create("bn_inception", num_classes=num_classes, settings=settings)

  return {
    "without": network(None),
    "with": network(side_by_side.build_batch_norm(config)),
  }


def _images(config: ml_collections.ConfigDict, split: str) -> Examples:
  """Inputs [N, image_size, image_size, 3], normalised."""
  images, labels = in_memory.load(
    open_split(config.data.name, split, config.data.dir), config.data.image_size
  )
  return Examples(DEFAULT.apply(images), jnp.asarray(labels, jnp.int32))
