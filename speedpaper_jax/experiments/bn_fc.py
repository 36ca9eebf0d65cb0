"""A parabola fitted by a deep, narrow, badly initialised network, with and without BN."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections
import numpy as np

from speedpaper_jax.config import ranges
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import side_by_side
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide
from speedpaper_jax.files.rules import ABOVE_ZERO, FINITE, ROWS, SWITCH, Rule, one_of, whole
from speedpaper_jax.models import features
from speedpaper_jax.models.layers import ACTIVATIONS
from speedpaper_jax.models.mlp import MLP
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of configs/bn_fc.py may be.
RULES: Mapping[str, Rule] = {
  **side_by_side.RULES,
  "optimizer.learning_rate": ABOVE_ZERO,
  "activation": one_of(ACTIVATIONS),
  "input_batch_norm": SWITCH,
  "train_examples": side_by_side.NORMALIZED_ROWS,
  "test_examples": side_by_side.NORMALIZED_ROWS,
  "hidden_layers": whole(2, 10_000),  # the report compares the first with the last
  "hidden_units": ROWS,
  "initial_std": ABOVE_ZERO,
  "initial_bias": FINITE,
  "epochs": whole(0, 2**20),
}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains both networks on the same batches.

  Args:
    config: of configs/bn_fc.py.
    directory: of the run.

  Returns:
    The summary: `steps`, `seconds`, `test_variance` (the loss of the best constant) and for each of
    `networks` its `test_loss` after the last epoch. arrays.npz has `train_x`, `train_y`, `test_x`
    and `test_y` [N], and for each network, before the first epoch and after each of E epochs,
    `NAME/test_loss` [E + 1], `NAME/outputs` [E + 1, test N], and in inference, on the test set,
    `NAME/inputs` and `NAME/activations` of the nonlinearities [E + 1, layers, test N · units].

  Raises:
    UserError: the config is wrong, or the directory cannot be written.
  """
  began = time.monotonic()
  _check(config)
  comparison = SideBySide(
    networks(config), side_by_side.build_optimizer(config), side_by_side.squared_error
  )
  generator = np.random.default_rng(config.seed)
  train, test = (
    parabola(generator, count) for count in (config.train_examples, config.test_examples)
  )
  directory.start_anew(config)
  states = comparison.initial_states([config.seed], train.inputs[:1])
  measurements = [_measure(config, comparison, states, test)]
  steps = 0
  for epoch in range(config.epochs):
    for batches in epoch_batches(config.train_examples, config.batch_size, config.seed, epoch):
      states, _ = comparison.train(states, train, batches)
      steps += len(batches)
    measurements.append(_measure(config, comparison, states, test))
    losses = "  ".join(
      f"{name} {measurements[-1][f'{name}/test_loss']:.1f}" for name in comparison.networks
    )
    print(f"epoch {epoch + 1:2d}/{config.epochs}  test loss: {losses}", flush=True)
  directory.save_config(config)  # in the place of that of a run that did not end
  directory.write_arrays(
    {
      "train_x": np.ravel(train.inputs),
      "train_y": np.ravel(train.targets),
      "test_x": np.ravel(test.inputs),
      "test_y": np.ravel(test.targets),
    }
    | {name: np.stack([found[name] for found in measurements]) for name in measurements[0]}
  )
  return {
    "steps": steps,
    "seconds": time.monotonic() - began,
    "test_variance": float(np.var(test.targets)),
    "networks": {
      name: {"test_loss": float(measurements[-1][f"{name}/test_loss"])}
      for name in comparison.networks
    },
  }


def _check(config: ml_collections.ConfigDict) -> None:
  ranges.check_fields(config, RULES, "bn_fc")
  if config.batch_size > config.train_examples:
    raise UserError(
      f"config.batch_size is {config.batch_size}, but there are {config.train_examples} examples "
      "to train on; set config.train_examples to more."
    )
  if config.train_examples % config.batch_size == 1:
    raise UserError(
      f"Of {config.train_examples} examples in batches of {config.batch_size} one is left over, "
      "which has no batch statistics; set another config.batch_size."
    )


def networks(config: ml_collections.ConfigDict) -> dict[str, nn.Module]:
  """Both keep the layers' biases; the same key draws the same kernels for both."""

  def network(**fields: Any) -> nn.Module:
    return MLP(
      hidden_units=(config.hidden_units,) * config.hidden_layers,
      outputs=1,
      activation=config.activation,
      kernel_init=nn.initializers.normal(config.initial_std),
      bias_init=nn.initializers.constant(config.initial_bias),
      **fields,
    )

  return {
    "without": network(),
    "with": network(
      batch_norm=side_by_side.build_batch_norm(config), input_batch_norm=config.input_batch_norm
    ),
  }


def parabola(generator: np.random.Generator, count: int) -> Examples:
  """Equidistant x from -7 to 10, and y = x² - 5 with normal noise of deviation 2, [count, 1]."""
  x = np.linspace(-7, 10, count)[:, None]
  y = x**2 - 5 + generator.normal(0, 2, x.shape)
  return Examples(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))


def epoch_batches(examples: int, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
  """The batches of an epoch in a new order, [steps, batch]; then the short one that is left."""
  order = np.random.default_rng((seed, epoch)).permutation(examples)
  whole = examples // batch_size * batch_size
  yield order[:whole].reshape(-1, batch_size)
  if whole < examples:
    yield order[None, whole:]


def _measure(
  config: ml_collections.ConfigDict, comparison: SideBySide, states: Any, test: Examples
) -> dict[str, np.ndarray]:
  measured = {}
  for name, (loss, outputs) in comparison.evaluate(states, test).items():
    layers = features.nonlinearity_inputs(
      comparison.networks[name], states[name].replica(0), test.inputs, train=False
    )
    inputs = jnp.stack([jnp.ravel(x) for x in layers.values()])
    measured[f"{name}/test_loss"] = np.asarray(loss[0])
    measured[f"{name}/outputs"] = np.ravel(outputs[0])
    measured[f"{name}/inputs"] = np.asarray(inputs)
    measured[f"{name}/activations"] = np.asarray(ACTIVATIONS[config.activation](inputs))
  return measured
