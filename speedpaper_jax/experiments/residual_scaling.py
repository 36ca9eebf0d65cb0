"""What happens to an Inception-ResNet whose residuals are not scaled down, and what helps.

Section 3.3 of arXiv 1602.07261: with more than 1000 filters the networks died early in training, so
that the last layer before the average pool gave nothing but zeros. Scaling the residuals by 0.1 to
0.3 prevented it; a warm-up at a low rate did not always.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from speedpaper_jax.config import ranges
from speedpaper_jax.data import in_memory
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import side_by_side
from speedpaper_jax.experiments.side_by_side import Examples
from speedpaper_jax.files.rules import (
  ABOVE_ZERO,
  FRACTION_BELOW_ONE,
  IMAGE_SIZE,
  NAME,
  SEED,
  TEXT,
  Rule,
  between,
  one_of,
  several,
  whole,
)
from speedpaper_jax.models import features, registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.features import FEATURES
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.steps import build
from speedpaper_jax.storage.run_directory import RunDirectory

PyTree = Any

NETWORKS = ("inception_resnet_v1", "inception_resnet_v2")
MEASURED_NUMBERS = ("loss", "top1", "gradient_norm", "dead", "zeros")

# What the fields of configs/residual_scaling.py may be.
RULES: Mapping[str, Rule] = {
  "experiment": NAME,
  "seed": SEED,
  "batch_size": side_by_side.NORMALIZED_ROWS,
  "steps": side_by_side.STEPS,
  "measure_every": side_by_side.STEPS,
  "model.name": one_of(NETWORKS),
  "widths": several(ABOVE_ZERO, 1),
  "scales": several(ABOVE_ZERO, 1),
  "rates": several(ABOVE_ZERO, 1),
  "warmup.steps": whole(1, 2**31 - 1),
  "warmup.factor": between(0, 1),
  "warmup.scale": ABOVE_ZERO,
  "rmsprop.decay": FRACTION_BELOW_ONE,
  "rmsprop.eps": ABOVE_ZERO,
  "rmsprop.momentum": FRACTION_BELOW_ONE,
  "batch_norm.epsilon": ABOVE_ZERO,
  "batch_norm.decay": FRACTION_BELOW_ONE,
  "data.name": NAME,
  "data.dir": TEXT,
  "data.train_split": NAME,
  "data.image_size": IMAGE_SIZE,
}


class Arm(NamedTuple):
  """How the residuals of a network are treated, of which there is one run at each width and rate.

  Attributes:
    scale: of all residuals.
    has_warmup: whether the first steps are at a low rate.
  """

  scale: float
  has_warmup: bool

  @property
  def title(self) -> str:
    """In words."""
    return f"scale {self.scale:g}{' and a warm-up' if self.has_warmup else ''}"


class Measured(NamedTuple):
  """Of one step of training, on its own batch and before the weights are moved.

  Attributes:
    loss: cross-entropy in nats.
    top1: accuracy, as a fraction.
    gradient_norm: of all parameters' gradient.
    dead: fraction of the last maps' features that are zero at each place of each image.
    zeros: fraction of zeros in the last maps.
    deviations: [blocks], the standard deviation of each residual block's output.
  """

  loss: jax.Array
  top1: jax.Array
  gradient_norm: jax.Array
  dead: jax.Array
  zeros: jax.Array
  deviations: jax.Array


class State(NamedTuple):
  """Of a network in training."""

  params: PyTree
  batch_stats: PyTree
  opt_state: optax.OptState


class Programs(NamedTuple):
  """What is computed of a network of one width, compiled for all scales and rates.

  Attributes:
    initial_state: () → state.
    step: state, batch, scale, rate → the next state, and what was measured.
  """

  initial_state: Callable[[], State]
  step: Callable[[State, Examples, float, float], tuple[State, Measured]]


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains a network for each width, rate and arm, all on the same batches, and measures.

  Args:
    config: of configs/residual_scaling.py.
    directory: of the run.

  Returns:
    The summary: `steps` of all runs together, `seconds`, `chance`, the `arms` as `Arm` has them,
    the names of the residual `blocks` and, for each width, the `filters` of the last maps.
    arrays.npz has `step` [T], the steps that are measured; for W widths, R rates and A arms of
    `arms_of` `loss`, `top1`, `gradient_norm`, `dead` and `zeros` [W, R, A, T] and `deviations`
    [W, R, A, T, blocks], as `Measured` says, NaN after a loss that is not finite.

  Raises:
    UserError: the data set is not there, the config is wrong, or the directory cannot be written.
  """
  began = time.monotonic()
  ranges.check_fields(config, RULES, "residual_scaling")
  _check_lengths(config)
  train = _images(config)
  num_classes = int(jnp.max(train.targets)) + 1
  directory.start_anew(config)
  blocks = list(residual_blocks(config))
  filters = [residual_blocks(config, width)[blocks[-1]][-1] for width in config.widths]
  measured_steps = range(0, config.steps, config.measure_every)
  shape = len(config.widths), len(config.rates), len(arms_of(config))
  arrays = {name: np.full((*shape, len(measured_steps)), np.nan) for name in MEASURED_NUMBERS}
  arrays["deviations"] = np.full((*arrays["loss"].shape, len(blocks)), np.nan)
  steps = 0
  for number, width in enumerate(config.widths):
    programs = programs_of(config, width, num_classes)
    for place in np.ndindex(shape[1:]):
      rate, arm = config.rates[place[0]], arms_of(config)[place[1]]
      taken, measurements = _train(config, programs, rate, arm, train)
      steps += taken
      for name in (*MEASURED_NUMBERS, "deviations"):
        values = np.array([getattr(measured, name) for measured in measurements])
        arrays[name][number, *place, : len(values)] = values
      last = measurements[-1]
      print(
        f"{filters[number]:5,} filters  rate {rate:<6g}  {arm.title:21}  "
        f"dead {last.dead:6.1%}  loss {last.loss:6.3f}  top1 {last.top1:.1%}",
        flush=True,
      )
  directory.save_config(config)  # in the place of that of a run that did not end
  directory.write_arrays({"step": np.array(measured_steps), **arrays})
  return {
    "steps": steps,
    "seconds": time.monotonic() - began,
    "chance": 1 / num_classes,
    "arms": [arm._asdict() for arm in arms_of(config)],
    "blocks": blocks,
    "filters": filters,
  }


def arms_of(config: ml_collections.ConfigDict) -> list[Arm]:
  """One for each scale, and one with a warm-up."""
  return [
    *(Arm(scale, has_warmup=False) for scale in config.scales),
    Arm(config.warmup.scale, has_warmup=True),
  ]


def _train(
  config: ml_collections.ConfigDict,
  programs: Programs,
  rate: float,
  arm: Arm,
  train: Examples,
) -> tuple[int, list[Measured]]:
  """One run: the steps that were taken, and what was measured."""
  state = programs.initial_state()
  batches = side_by_side.batches(len(train.inputs), config.batch_size, config.seed)
  measurements: list[Measured] = []
  for step, rows in zip(range(config.steps), batches, strict=False):
    is_low = arm.has_warmup and step < config.warmup.steps
    batch = Examples(train.inputs[rows], train.targets[rows])
    state, on_device = programs.step(
      state, batch, arm.scale, rate * config.warmup.factor if is_low else rate
    )
    if step % config.measure_every == 0:
      measurements.append(jax.device_get(on_device))
      if not math.isfinite(measurements[-1].loss):
        return step + 1, measurements
  return config.steps, measurements


def programs_of(config: ml_collections.ConfigDict, width: float, num_classes: int) -> Programs:
  """They are compiled when they are first called."""
  blocks = list(residual_blocks(config))
  optimizer = optax.inject_hyperparams(optax.rmsprop)(
    learning_rate=0.0,
    decay=config.rmsprop.decay,
    eps=config.rmsprop.eps,
    initial_scale=1.0,
    eps_in_sqrt=True,
    momentum=config.rmsprop.momentum,
  )

  @jax.jit
  def initial_state() -> State:
    network = network_of(config, width, 1.0, num_classes)
    size = config.data.image_size
    images = jnp.zeros((1, size, size, 3))
    variables = network.init(jax.random.key(config.seed), images, train=False)
    params = variables["params"]
    return State(params, variables["batch_stats"], optimizer.init(params))

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state: State, batch: Examples, scale: Any, rate: Any) -> tuple[State, Measured]:
    network = network_of(config, width, scale, num_classes)

    def loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, dict[str, PyTree]]]:
      logits, left = network.apply(
        {"params": params, "batch_stats": state.batch_stats},
        batch.inputs,
        train=True,
        mutable=["batch_stats", FEATURES],
      )
      return side_by_side.cross_entropy(logits, batch.targets), (logits, dict(left))

    (value, (logits, left)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    state.opt_state.hyperparams["learning_rate"] = rate
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    top1 = jnp.mean(jnp.argmax(logits, -1) == batch.targets)
    measured = measure(value, top1, grads, [left[FEATURES][name] for name in blocks])
    params = optax.apply_updates(state.params, updates)
    return State(params, left["batch_stats"], opt_state), measured

  return Programs(initial_state, step)


def measure(loss: jax.Array, top1: jax.Array, grads: PyTree, maps: Sequence[jax.Array]) -> Measured:
  """What is said of a step.

  Args:
    loss: of the batch.
    top1: the same.
    grads: of all parameters.
    maps: [N, H, W, C], the outputs of the residual blocks from the first to the last, which are
      rectified.
  """
  is_zero = maps[-1] == 0
  return Measured(
    loss=loss,
    top1=top1,
    gradient_norm=optax.tree.norm(grads),
    dead=jnp.mean(jnp.all(is_zero, (0, 1, 2))),
    zeros=jnp.mean(is_zero),
    deviations=jnp.stack([jnp.std(x) for x in maps]),
  )


def network_of(
  config: ml_collections.ConfigDict, width: float, scale: Any, num_classes: int
) -> nn.Module:
  """Without dropout. The scale may be traced, so that all scales have one program."""
  settings = LayerSettings(
    BatchNorm(decay=config.batch_norm.decay, epsilon=config.batch_norm.epsilon),
    operations=build.build_operations(parallel.make_mesh()),
    width=width,
  )
  return registry.create(
    config.model.name,
    num_classes=num_classes,
    settings=settings,
    dropout_rate=0.0,
    residual_scales=(scale, scale, scale),
  )


def residual_blocks(
  config: ml_collections.ConfigDict, width: float = 1.0
) -> dict[str, tuple[int, ...]]:
  """The residual blocks in their order, and the shape of what each gives for one image.

  Nothing is computed.
  """
  network, size = network_of(config, width, 1.0, num_classes=1), config.data.image_size
  blocks: dict[str, tuple[int, ...]] = {}

  def record(images: jax.Array) -> None:
    variables = network.init(jax.random.key(0), images, train=False)
    # Once it has left a traced function, a mapping is in alphabetical order.
    for name, maps in features.extract_features(network, variables, images).items():
      if name.startswith("block"):
        blocks[name] = maps.shape

  jax.eval_shape(record, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
  return blocks


def _check_lengths(config: ml_collections.ConfigDict) -> None:
  for field in ("measure_every", "warmup.steps"):
    section, _, name = field.rpartition(".")
    length = (config[section] if section else config)[name]
    if length >= config.steps:
      raise UserError(
        f"config.{field} is {length}; it must be below config.steps, which is {config.steps}."
      )


def _images(config: ml_collections.ConfigDict) -> Examples:
  """Inputs [N, image_size, image_size, 3], normalised."""
  section = config.data
  images, labels = in_memory.load(
    open_split(section.name, section.train_split, section.dir), section.image_size
  )
  return Examples(DEFAULT.apply(images), jnp.asarray(labels, jnp.int32))
