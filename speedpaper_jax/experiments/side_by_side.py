"""Small networks trained on the same batches, many steps inside one compiled program.

The training loop of `train.py` returns to Python after each step, which costs more than a small
network's step itself. Here the examples lie in memory, a program takes the numbers of those in each
batch, and all networks take their steps in it, one after another.

A network may be there several times over, with other initial values (seeds, scales): the arrays of
its state have a leading axis [R] of replicas, which take their steps in turn.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax import lax

from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.files.rules import (
  ABOVE_ZERO,
  FRACTION_BELOW_ONE,
  NAME,
  SEED,
  TEXT,
  Rule,
  one_of,
  whole,
)
from speedpaper_jax.models.batch_norm import BatchNorm

PyTree = Any

NORMALIZED_ROWS = whole(2, 2**20)  # of one example batch normalization would always make zero
REPLICAS = LAYERS = whole(1, 10_000)
STEPS = whole(1, 2**31 - 1)

_OPTIMIZERS: Mapping[str, Callable[[float, ml_collections.ConfigDict], Any]] = {
  "sgd": lambda rate, section: optax.sgd(rate, momentum=section.momentum or None),
  "adam": lambda rate, section: optax.adam(rate),
}

# What the fields of `default_config` may be.
RULES: Mapping[str, Rule] = {
  "experiment": NAME,
  "seed": SEED,
  "batch_size": NORMALIZED_ROWS,
  "optimizer.name": one_of(_OPTIMIZERS),
  "optimizer.momentum": FRACTION_BELOW_ONE,
  "batch_norm.epsilon": ABOVE_ZERO,
  "batch_norm.decay": FRACTION_BELOW_ONE,
}
# What those of a section `data` may be, for experiments that have one.
DATA_RULES: Mapping[str, Rule] = {
  "data.name": NAME,
  "data.dir": TEXT,
  "data.train_split": NAME,
  "data.eval_split": NAME,
}


class Examples(flax.struct.PyTreeNode):
  """A data set in memory.

  Attributes:
    inputs: [N, ...], as the networks take them.
    targets: class numbers int32 [N], or values [N, outputs].
  """

  inputs: jax.Array
  targets: jax.Array


class State(flax.struct.PyTreeNode):
  """Of the replicas of one network; every array has a leading axis [R]."""

  params: PyTree
  batch_stats: PyTree
  opt_state: optax.OptState

  @property
  def variables(self) -> dict[str, PyTree]:
    """What the network is applied with."""
    return {"params": self.params, "batch_stats": self.batch_stats}

  def replica(self, number: int) -> dict[str, PyTree]:
    """The variables of one replica, without the leading axis."""
    return jax.tree.map(lambda x: x[number], self.variables)


def default_config() -> ml_collections.ConfigDict:
  """What the configs of all experiments with small networks have; each adds its own fields."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # of initial values, and of the order of the examples
  config.batch_size = 60
  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "sgd"  # sgd, adam
  config.optimizer.learning_rate = 0.1
  config.optimizer.momentum = 0.0  # of sgd
  config.batch_norm = ml_collections.ConfigDict()
  config.batch_norm.epsilon = 1e-3
  config.batch_norm.decay = 0.99  # of the moving averages; PyTorch's momentum is 1 - decay
  return config


def build_optimizer(
  config: ml_collections.ConfigDict, learning_rate: float | None = None
) -> optax.GradientTransformation:
  """The optimiser of a config.

  Args:
    config: has a section `optimizer`.
    learning_rate: in the place of the config's.

  Raises:
    UserError: there is none of that name.
  """
  section = config.optimizer
  if section.name not in _OPTIMIZERS:
    raise UserError(
      f"config.optimizer.name='{section.name}' is unknown.{did_you_mean(section.name, _OPTIMIZERS)}"
    )
  if learning_rate is None:
    learning_rate = section.learning_rate
  return _OPTIMIZERS[section.name](learning_rate, section)


def build_batch_norm(config: ml_collections.ConfigDict) -> BatchNorm:
  """The batch normalization of a config."""
  return BatchNorm(decay=config.batch_norm.decay, epsilon=config.batch_norm.epsilon)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """[N, classes], int [N] → the mean, in nats."""
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def squared_error(outputs: jax.Array, values: jax.Array) -> jax.Array:
  """[N, outputs], the same → the mean over both axes."""
  return jnp.mean(jnp.square(outputs - values))


class SideBySide:
  """Trains several networks on the same batches."""

  def __init__(
    self,
    networks: Mapping[str, nn.Module],
    optimizer: optax.GradientTransformation,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    program_steps: int | None = None,
  ) -> None:
    """Prepares the programs, which are compiled when they are first called.

    Args:
      networks: by name, called as `network.apply(variables, inputs, train=True)`.
      optimizer: of all of them.
      loss: outputs, targets → the mean over a batch.
      program_steps: how many steps one program takes; None for all of a call. For large networks
        it is 1, because XLA computes what is inside a loop on one core of a CPU.
    """
    self.networks = networks
    self._optimizer = optimizer
    self._loss = loss
    self._program_steps = program_steps
    self._train = jax.jit(self._train_steps, donate_argnums=0)
    self._evaluate = jax.jit(self._losses_and_outputs)

  def initial_states(self, seeds: Sequence[int], inputs: jax.Array) -> dict[str, State]:
    """Draws the initial values; one seed draws the same kernels in all networks.

    Args:
      seeds: one for each replica.
      inputs: [1, ...], an example.
    """
    states = {}
    for name, network in self.networks.items():
      init = jax.jit(functools.partial(network.init, train=False))
      drawn = [init(jax.random.key(seed), inputs) for seed in seeds]
      states[name] = self.state_of(jax.tree.map(lambda *replicas: jnp.stack(replicas), *drawn))
    return states

  def state_of(self, variables: Mapping[str, PyTree]) -> State:
    """The state before the first step, from `params` and `batch_stats` with a leading axis [R]."""
    params = variables["params"]
    opt_state = jax.vmap(self._optimizer.init)(params)
    return State(params, variables.get("batch_stats", {}), opt_state)

  def train(
    self, states: dict[str, State], examples: Examples, batches: np.ndarray
  ) -> tuple[dict[str, State], dict[str, jax.Array]]:
    """Takes a step of every network on each batch.

    Args:
      states: of the networks; their buffers are given to the new ones.
      examples: to train on.
      batches: int32 [steps, batch], numbers of examples.

    Returns:
      The new states, and for each network the losses before each step, [steps, R].
    """
    by_program = []
    length = self._program_steps or len(batches)
    for first in range(0, len(batches), length):
      states, losses = self._train(
        states, examples, jnp.asarray(batches[first : first + length], jnp.int32)
      )
      by_program.append(losses)
    return states, jax.tree.map(lambda *losses: jnp.concatenate(losses), *by_program)

  def evaluate(
    self, states: dict[str, State], examples: Examples
  ) -> dict[str, tuple[jax.Array, jax.Array]]:
    """For each network the mean loss [R] and the outputs [R, N, outputs], in inference."""
    return self._evaluate(states, examples)

  def accuracies(self, states: dict[str, State], examples: Examples) -> dict[str, np.ndarray]:
    """For each network the fraction [R] of examples it classifies correctly, in inference."""
    labels = np.asarray(examples.targets)
    return {
      name: np.mean(np.argmax(logits, -1) == labels, -1)
      for name, (_, logits) in self.evaluate(states, examples).items()
    }

  def _train_steps(
    self, states: dict[str, State], examples: Examples, batches: jax.Array
  ) -> tuple[dict[str, State], dict[str, jax.Array]]:
    def step(states: dict[str, State], rows: jax.Array) -> Any:
      batch = jax.tree.map(lambda x: x[rows], examples)
      # Not `vmap`: on a CPU, products of many small matrices are no faster together.
      stepped = {
        name: _for_each(functools.partial(self._step, network, batch), states[name])
        for name, network in self.networks.items()
      }
      return (
        {name: state for name, (state, _) in stepped.items()},
        {name: loss for name, (_, loss) in stepped.items()},
      )

    return _scan(step, states, batches)

  def _step(self, network: nn.Module, batch: Examples, state: State) -> tuple[State, jax.Array]:
    def loss(params: PyTree) -> tuple[jax.Array, PyTree]:
      outputs, updated = network.apply(
        {"params": params, "batch_stats": state.batch_stats},
        batch.inputs,
        train=True,
        mutable=["batch_stats"],
      )
      return self._loss(outputs, batch.targets), updated.get("batch_stats", {})

    (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, batch_stats, opt_state), value

  def _losses_and_outputs(
    self, states: dict[str, State], examples: Examples
  ) -> dict[str, tuple[jax.Array, jax.Array]]:
    def of_replica(network: nn.Module, state: State) -> tuple[jax.Array, jax.Array]:
      outputs: Any = network.apply(state.variables, examples.inputs, train=False)
      return self._loss(outputs, examples.targets), outputs

    return {
      name: _for_each(functools.partial(of_replica, network), states[name])
      for name, network in self.networks.items()
    }


def _scan(function: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
  """`lax.scan`, but no loop where there is a single one; even unrolled it would be in a loop."""
  if jax.tree.leaves(xs)[0].shape[0] > 1:
    return lax.scan(function, carry, xs)
  carry, result = function(carry, jax.tree.map(lambda x: x[0], xs))
  return carry, jax.tree.map(lambda x: x[None], result)


def _for_each(function: Callable[[State], Any], replicas: State) -> Any:
  """Results of a function of one replica, stacked."""
  return _scan(lambda _, replica: (None, function(replica)), None, replicas)[1]


def batches(examples: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
  """Endless batches of numbers of examples: each once an epoch, in a new order each epoch.

  Batches cross the boundaries of epochs, so that none is short. Grain's shuffle, which training
  uses, takes as long for a number as a small network for its step.
  """
  indices = np.empty(0, np.int32)
  epoch = 0
  while True:
    while len(indices) < batch_size:
      order = np.random.default_rng((seed, epoch)).permutation(examples).astype(np.int32)
      indices = np.concatenate([indices, order])
      epoch += 1
    yield indices[:batch_size]
    indices = indices[batch_size:]
