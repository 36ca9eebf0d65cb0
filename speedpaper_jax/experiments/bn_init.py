"""Initial scales: what a hundred layers make of their input, and what can be trained at all."""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax.typing import Initializer

from speedpaper_jax.config import ranges
from speedpaper_jax.data import in_memory
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.experiments import side_by_side
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide
from speedpaper_jax.files.rules import ABOVE_ZERO, NAME, ROWS, Rule, several, whole
from speedpaper_jax.models import features
from speedpaper_jax.models.mlp import MLP
from speedpaper_jax.storage.run_directory import RunDirectory

PyTree = Any

INITIALIZERS: dict[str, Initializer] = {
  # PyTorch's of linear layers: uniform within ±1/√fan-in, whose variance is 1 / (3 · fan-in).
  "default": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
  "normal": nn.initializers.normal(1.0),
  "normal1000": nn.initializers.normal(1000.0),
  "kaiming": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
}
DTYPES = ("float32", "float64")

# What the fields of configs/bn_init.py may be.
RULES: Mapping[str, Rule] = {
  **side_by_side.RULES,
  **side_by_side.DATA_RULES,
  "deep.initializers": several(NAME, 1),
  "deep.layers": whole(2, 10_000),
  "deep.units": ROWS,
  "deep.batch_size": side_by_side.NORMALIZED_ROWS,
  "deep.seeds": side_by_side.REPLICAS,
  "trained.layers": side_by_side.LAYERS,
  "trained.units": ROWS,
  "trained.scales": several(ABOVE_ZERO, 1),
  "trained.learning_rates": several(ABOVE_ZERO, 1),
  "trained.seeds": side_by_side.REPLICAS,
  "trained.steps": side_by_side.STEPS,
}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Measures the deep networks, then trains the shallower ones.

  Args:
    config: of configs/bn_init.py.
    directory: of the run.

  Returns:
    The summary: `steps`, `seconds`; for each initialisation and network of `deep`, in float32,
    `first` and `last`, the medians of the deviations after these layers, `last_in_float64`, and by
    seed the first layers, counted from 1, of which outputs are all zero (`dead`), not all finite
    (`overflow`) or NaN (`nan`), None if never; and for each network of `trained` the `top1` at each
    of `scales`.
    arrays.npz has `deep/INIT/NAME/DTYPE` [seeds, layers], the deviations; `scales` [S],
    `learning_rates` [L], `searched/NAME` [L, S, seeds], accuracies on held-out images, and
    `trained/NAME` [S, seeds], those at the rate that is best for each scale.

  Raises:
    UserError: the data set is not there, the config is wrong, or the directory cannot be written.
  """
  began = time.monotonic()
  ranges.check_fields(config, RULES, "bn_init")
  for name in config.deep.initializers:
    if name not in INITIALIZERS:
      raise UserError(
        f"config.deep.initializers has the unknown '{name}'.{did_you_mean(name, INITIALIZERS)}"
      )
  train, test = (
    _images(config, split) for split in (config.data.train_split, config.data.eval_split)
  )
  directory.start_anew(config)

  deviations: dict[str, np.ndarray] = {}
  deep: dict[str, Any] = {}
  for initializer in config.deep.initializers:
    deep[initializer] = {}
    for name, network in deep_networks(config, initializer).items():
      found = {dtype: _deviations(config, network, dtype) for dtype in DTYPES}
      deviations |= {f"deep/{initializer}/{name}/{dtype}": found[dtype] for dtype in DTYPES}
      deep[initializer][name] = describe_deviations(found["float32"], found["float64"])
      print(f"{initializer:10s}  {name:7s}  {deep[initializer][name]}", flush=True)

  searched = _train(config, train, test)
  trained = {name: best_rates(accuracies) for name, accuracies in searched.items()}
  directory.save_config(config)  # in the place of that of a run that did not end
  directory.write_arrays(
    deviations
    | {f"searched/{name}": accuracies for name, accuracies in searched.items()}
    | {f"trained/{name}": accuracies for name, accuracies in trained.items()}
    | {
      "scales": np.array(config.trained.scales),
      "learning_rates": np.array(config.trained.learning_rates),
    }
  )
  return {
    "steps": config.trained.steps * len(config.trained.learning_rates),
    "seconds": time.monotonic() - began,
    "deep": deep,
    "scales": list(config.trained.scales),
    "trained": {
      name: {"top1": [float(top1) for top1 in accuracies.mean(-1)]}
      for name, accuracies in trained.items()
    },
  }


def deep_networks(config: ml_collections.ConfigDict, initializer: str) -> dict[str, nn.Module]:
  """Without a linear layer at the end, and without biases."""

  def network(**fields: Any) -> nn.Module:
    return MLP(
      hidden_units=(config.deep.units,) * config.deep.layers,
      outputs=0,
      use_bias=False,
      kernel_init=INITIALIZERS[initializer],
      **fields,
    )

  return {"without": network(), "with": network(batch_norm=side_by_side.build_batch_norm(config))}


def layer_deviations(network: nn.Module, variables: PyTree, inputs: jax.Array) -> np.ndarray:
  """Standard deviation of all outputs of each rectified layer, [layers].

  Batch normalization takes the statistics of `inputs`. The deviations are computed in float64, in
  which they are finite for as long as all outputs are.
  """
  # Not compiled as one program, which would take longer than all of its layers.
  layers = features.nonlinearity_inputs(network, variables, inputs, train=True).values()
  outputs = [np.asarray(nn.relu(x), np.float64) for x in layers]
  with np.errstate(over="ignore"):  # in the squares, beyond 1e154
    return np.array([np.std(x, ddof=1) if np.isfinite(x).all() else np.max(x) for x in outputs])


def describe_deviations(float32: np.ndarray, float64: np.ndarray) -> dict[str, Any]:
  """What the table says of one network; both [seeds, layers] → see `run`."""

  def first_layers(holds: np.ndarray) -> list[int | None]:
    return [int(np.argmax(row)) + 1 if row.any() else None for row in holds]

  def median(deviations: np.ndarray) -> float | None:
    value = float(np.median(deviations))
    return value if np.isfinite(value) else None  # JSON has no other

  return {
    "first": median(float32[:, 0]),
    "last": median(float32[:, -1]),
    "last_in_float64": median(float64[:, -1]),
    "dead": first_layers(float32 == 0),
    "overflow": first_layers(~np.isfinite(float32)),
    "nan": first_layers(np.isnan(float32)),
  }


def best_rates(accuracies: np.ndarray) -> np.ndarray:
  """[L, S, seeds] → [S, seeds], at the rate that is best for each scale on average of the seeds."""
  best = np.argmax(accuracies.mean(-1), 0)
  return accuracies[best, np.arange(len(best))]


def _deviations(config: ml_collections.ConfigDict, network: nn.Module, dtype: str) -> np.ndarray:
  """[seeds, layers], in float32 or float64 arithmetic, with the same weights and inputs."""
  by_seed = []
  for seed in range(config.deep.seeds):
    inputs = np.random.default_rng(seed).standard_normal(
      (config.deep.batch_size, config.deep.units), np.float32
    )
    variables = network.init(jax.random.key(seed), inputs, train=False)
    with jax.enable_x64(dtype == "float64"):
      cast = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), (variables, inputs))
      by_seed.append(layer_deviations(network, *cast))
  return np.stack(by_seed)


def _images(config: ml_collections.ConfigDict, split: str) -> Examples:
  """Inputs [N, H·W] of mean 0 and deviation 1 over all of them together."""
  images, labels = in_memory.load(open_split(config.data.name, split, config.data.dir))
  pixels = images[..., 0].reshape(len(images), -1).astype(np.float32)
  return Examples(
    jnp.asarray((pixels - pixels.mean()) / pixels.std()), jnp.asarray(labels, jnp.int32)
  )


def _train(
  config: ml_collections.ConfigDict, train: Examples, test: Examples
) -> dict[str, np.ndarray]:
  """Accuracies [L, S, seeds] of the shallower networks."""
  section = config.trained
  classes = int(jnp.max(train.targets)) + 1

  def network(**fields: Any) -> nn.Module:
    return MLP(
      hidden_units=(section.units,) * section.layers,
      outputs=classes,
      kernel_init=nn.initializers.normal(1.0),
      **fields,
    )

  networks = {
    "without": network(),
    "with": network(batch_norm=side_by_side.build_batch_norm(config), use_bias=False),
  }
  accuracies: dict[str, list[np.ndarray]] = {name: [] for name in networks}
  config = config.copy_and_resolve_references()  # its rate is set below
  for rate in section.learning_rates:
    comparison = SideBySide(
      networks, side_by_side.build_optimizer(config, rate), side_by_side.cross_entropy
    )
    drawn = comparison.initial_states(range(section.seeds), train.inputs[:1])
    states = {
      name: comparison.state_of(_scaled(state.variables, section.scales))
      for name, state in drawn.items()
    }
    batches = side_by_side.batches(len(train.inputs), config.batch_size, config.seed)
    chunk = np.stack(list(itertools.islice(batches, section.steps)))
    states, _ = comparison.train(states, train, chunk)
    for name, top1 in comparison.accuracies(states, test).items():
      accuracies[name].append(top1.reshape(len(section.scales), section.seeds))
    print(f"trained at a rate of {rate:g}", flush=True)
  return {name: np.stack(by_rate) for name, by_rate in accuracies.items()}


def _scaled(variables: PyTree, scales: Sequence[float]) -> PyTree:
  """Replicas of each seed with kernels of each scale, [S · seeds, …], scales outermost."""

  def repeat(path: Any, x: jax.Array) -> jax.Array:
    is_kernel = jax.tree_util.keystr(path[-1:], simple=True) == "kernel"
    return jnp.concatenate([x * scale if is_kernel else x for scale in scales])

  return jax.tree_util.tree_map_with_path(repeat, variables)
