"""Internal covariate shift, measured: how the inputs of nonlinearities are distributed, and drift.

Section 1 of the Batch Normalization paper calls the change of these distributions in the course of
training internal covariate shift.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import side_by_side
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide, State
from speedpaper_jax.models import features

PyTree = Any
Measurement = dict[str, np.ndarray]

_LINES = 10  # printed in the course of a run


class Distribution(flax.struct.PyTreeNode):
  """Of each layer's features, over the examples and locations.

  Attributes:
    mean: for each layer [C].
    std: for each layer [C], the standard deviation.
  """

  mean: tuple[jax.Array, ...]
  std: tuple[jax.Array, ...]

  @classmethod
  def of(cls, layers: Iterable[jax.Array]) -> "Distribution":
    """Of values [N, ..., C]."""
    values = [x.reshape(-1, x.shape[-1]) for x in layers]
    return cls(tuple(jnp.mean(x, 0) for x in values), tuple(jnp.std(x, 0) for x in values))


class Statistics(flax.struct.PyTreeNode):
  """Of all layers.

  Attributes:
    inputs: of the nonlinearities.
    unnormalized: of what batch normalization makes them of, Wu; without it, the same.
  """

  inputs: Distribution
  unnormalized: Distribution


def measure(network: nn.Module, variables: Mapping[str, PyTree], inputs: jax.Array) -> Statistics:
  """The statistics while the network trains: normalised, if at all, by those of `inputs`."""
  unnormalized, normalized = features.linear_outputs_and_nonlinearity_inputs(
    network, variables, inputs, train=True
  )
  return Statistics(
    inputs=Distribution.of(normalized.values()), unnormalized=Distribution.of(unnormalized.values())
  )


def layer_names(network: nn.Module, inputs: jax.Array) -> Sequence[str]:
  """The layers in the order of `measure`; nothing is computed."""
  names: list[str] = []

  def record(inputs: jax.Array) -> None:
    variables = network.init(jax.random.key(0), inputs, train=False)
    names.extend(features.nonlinearity_inputs(network, variables, inputs, train=True))

  jax.eval_shape(record, inputs)
  return names


def by_layer(before: Statistics, after: Statistics) -> dict[str, jax.Array]:
  """One number a layer.

  Args:
    before: the statistics before a step of training.
    after: after it, on the same inputs.

  Returns:
    `mean` and `std` of the nonlinearities' inputs `before`, averaged over a layer's features;
    `drift`: by how much of its standard deviation a feature's mean moves in the step, again on
    average; and `unnormalized_drift`, the same of Wu. Each [layers]. Batch normalization makes the
    mean of an input its β and the deviation its γ, so that it drifts with these alone.
  """
  return {
    "mean": jnp.stack([jnp.mean(mean) for mean in before.inputs.mean]),
    "std": jnp.stack([jnp.mean(std) for std in before.inputs.std]),
    "drift": _drift(before.inputs, after.inputs),
    "unnormalized_drift": _drift(before.unnormalized, after.unnormalized),
  }


def _drift(before: Distribution, after: Distribution) -> jax.Array:
  tiny = jnp.finfo(before.std[0].dtype).tiny  # a unit that is off has neither deviation nor drift
  return jnp.stack(
    [
      jnp.mean(jnp.abs(moved - mean) / jnp.maximum(std, tiny))
      for mean, std, moved in zip(before.mean, before.std, after.mean, strict=True)
    ]
  )


def check_config(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if there is no step to measure."""
  if not 2 <= config.measure_every <= config.steps:
    raise UserError(
      f"config.measure_every is {config.measure_every}; it must be at least 2 and at most "
      f"config.steps, which is {config.steps}."
    )


def train_and_measure(
  config: ml_collections.ConfigDict, comparison: SideBySide, train: Examples, test: Examples
) -> Iterator[tuple[Measurement, dict[str, State]]]:
  """Trains networks that classify, and measures each `measure_every` steps, across one step.

  Args:
    config: has `steps`, `measure_every`, `measured_examples`, `batch_size` and `seed`.
    comparison: of the networks.
    train: examples to train on; on the first `measured_examples` of them statistics are taken.
    test: held-out examples.

  Yields:
    `step`, and for each network `NAME/top1`, and `NAME/mean` and so on of `by_layer`; and the
    states after the step.
  """
  states = comparison.initial_states([config.seed], train.inputs[:1])
  batches = side_by_side.batches(len(train.inputs), config.batch_size, config.seed)
  observed = train.inputs[: config.measured_examples]

  @jax.jit
  def statistics(states: Mapping[str, State]) -> dict[str, Statistics]:
    return {
      name: measure(network, states[name].replica(0), observed)
      for name, network in comparison.networks.items()
    }

  count = config.steps // config.measure_every
  for number in range(1, count + 1):
    chunk = np.stack(list(itertools.islice(batches, config.measure_every)))
    states, _ = comparison.train(states, train, chunk[:-1])
    before = statistics(states)
    states, _ = comparison.train(states, train, chunk[-1:])
    after = statistics(states)
    measurement = {"step": np.array(number * config.measure_every)}
    for name, top1 in comparison.accuracies(states, test).items():
      measurement[f"{name}/top1"] = top1[0]
      for what, values in by_layer(before[name], after[name]).items():
        measurement[f"{name}/{what}"] = np.asarray(values)
    yield measurement, states
    if number * _LINES % count < _LINES:
      shown = "  ".join(f"{name} {measurement[f'{name}/top1']:.2%}" for name in comparison.networks)
      print(f"step {measurement['step']:5d}/{config.steps}  top1: {shown}", flush=True)


def stack(measurements: Sequence[Measurement]) -> dict[str, np.ndarray]:
  """Arrays with a row for each measurement."""
  return {name: np.stack([found[name] for found in measurements]) for name in measurements[0]}
