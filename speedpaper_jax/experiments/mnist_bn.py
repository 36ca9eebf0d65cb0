"""Section 4.1 of the Batch Normalization paper: MNIST, three layers of sigmoids, Figure 1."""

import functools
import time
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from speedpaper_jax.config import ranges
from speedpaper_jax.data import in_memory
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.experiments import nonlinearity_statistics, side_by_side
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide, State
from speedpaper_jax.files.rules import ABOVE_ZERO, ROWS, Rule
from speedpaper_jax.models import features
from speedpaper_jax.models.mlp import MLP
from speedpaper_jax.storage.run_directory import RunDirectory

PERCENTILES = (15, 50, 85)  # Figure 1(b, c)

# What the fields of configs/mnist_bn.py may be.
RULES: Mapping[str, Rule] = {
  **side_by_side.RULES,
  **side_by_side.DATA_RULES,
  "optimizer.learning_rate": ABOVE_ZERO,
  "hidden_layers": side_by_side.LAYERS,
  "hidden_units": ROWS,
  "initial_std": ABOVE_ZERO,
  "steps": side_by_side.STEPS,
  "measure_every": side_by_side.STEPS,
  "measured_examples": side_by_side.NORMALIZED_ROWS,
}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains three networks on the same batches: without BN, with it, and with γ = 1 and β = 0.

  Args:
    config: of configs/mnist_bn.py.
    directory: of the run.

  Returns:
    The summary: `steps`, `seconds` and, for each of `networks`, `top1` on held-out digits at the
    end. arrays.npz has, a row for each of T measurements, `step` [T] and for each network
    `NAME/top1` [T], `NAME/percentiles` [T, 3, units] of the inputs of the last hidden layer's
    sigmoids, and `NAME/mean`, `NAME/std`, `NAME/drift`, `NAME/unnormalized_drift` [T, layers] as
    `nonlinearity_statistics.by_layer` has them.

  Raises:
    UserError: the data set is not there, the config is wrong, or the directory cannot be written.
  """
  began = time.monotonic()
  ranges.check_fields(config, RULES, "mnist_bn")
  nonlinearity_statistics.check_config(config)
  comparison = SideBySide(
    networks(config), side_by_side.build_optimizer(config), side_by_side.cross_entropy
  )
  train, test = (
    _binary_digits(config, split) for split in (config.data.train_split, config.data.eval_split)
  )
  directory.start_anew(config)
  percentiles = jax.jit(functools.partial(_percentiles, comparison.networks))
  measurements = []
  for measurement, states in nonlinearity_statistics.train_and_measure(
    config, comparison, train, test
  ):
    found = percentiles(states, train.inputs[: config.measured_examples])
    measurements.append(
      measurement | {f"{name}/percentiles": np.asarray(values) for name, values in found.items()}
    )
  arrays = nonlinearity_statistics.stack(measurements)
  directory.save_config(config)  # in the place of that of a run that did not end
  directory.write_arrays(arrays)
  return {
    "steps": int(arrays["step"][-1]),
    "seconds": time.monotonic() - began,
    "networks": {name: {"top1": float(arrays[f"{name}/top1"][-1])} for name in comparison.networks},
  }


def networks(config: ml_collections.ConfigDict) -> dict[str, nn.Module]:
  """The three networks; the first layers' weights are drawn alike."""
  batch_norm = side_by_side.build_batch_norm(config)

  def network(**fields: Any) -> nn.Module:
    return MLP(
      hidden_units=(config.hidden_units,) * config.hidden_layers,
      outputs=10,
      activation="sigmoid",
      kernel_init=nn.initializers.normal(config.initial_std),
      **fields,
    )

  return {
    "without": network(),
    "with": network(batch_norm=batch_norm, use_bias=False),
    "fixed": network(batch_norm=batch_norm.copy(use_scale=False, use_bias=False), use_bias=False),
  }


def _binary_digits(config: ml_collections.ConfigDict, split: str) -> Examples:
  """Inputs [N, H·W], 0 or 1: the grey values above half."""
  images, labels = in_memory.load(open_split(config.data.name, split, config.data.dir))
  binary = images[..., 0] > 127
  return Examples(
    jnp.asarray(binary.reshape(len(images), -1), jnp.float32), jnp.asarray(labels, jnp.int32)
  )


def _percentiles(
  networks: Mapping[str, nn.Module], states: Mapping[str, State], inputs: jax.Array
) -> dict[str, jax.Array]:
  """For each network [3, units], of the inputs of the last hidden layer's sigmoids."""
  found = {}
  for name, network in networks.items():
    layers = features.nonlinearity_inputs(network, states[name].replica(0), inputs, train=True)
    *_, last = layers.values()
    found[name] = jnp.percentile(last, jnp.array(PERCENTILES), axis=0)
  return found
