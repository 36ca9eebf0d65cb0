"""From a training config to the objects of a run, for training and all that looks at it.

`prepare` checks the config and finds the devices, `assemble` builds what depends on the data too,
and `compile_step` compiles the step.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from speedpaper_jax.compilation import freed_memory, slow_cards
from speedpaper_jax.config import ranges
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.plan import Plan
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models import layer_names
from speedpaper_jax.steps import build, initial_values
from speedpaper_jax.steps.mixing import Mixing
from speedpaper_jax.steps.step import TrainState, batch_template, make_train_step


@dataclasses.dataclass(frozen=True)
class Assembly:
  """What a run is made of.

  Attributes:
    config: of the run, complete.
    mesh: the devices.
    num_classes: of the data.
    durations: batch and epoch sizes, and what was trained before.
    plan: length and intervals.
    schedule: the learning rate of each step, the first of which is 0.
    model: the network, for training.
    optimizer: with its schedule.
    initial: the program that draws the first state; traced, not compiled.
    mixing: of neighbouring images in training.
    class_weights: of each class in the loss; None where all have the same.
  """

  config: ml_collections.ConfigDict
  mesh: Mesh
  num_classes: int
  durations: Durations
  plan: Plan
  schedule: optax.Schedule
  model: nn.Module
  optimizer: optax.GradientTransformation
  initial: jax.stages.Traced
  mixing: Mixing
  class_weights: np.ndarray | None

  @functools.cached_property
  def state_template(self) -> TrainState:
    """Shapes, dtypes and shardings of the state."""
    template: TrainState = parallel.replicated_template(self.mesh, self.initial.out_info)
    return template

  @property
  def parameter_paths(self) -> list[list[str]]:
    """The names of the modules that each parameter is in, from the root on, and its own."""
    return _paths(self.initial.out_info.params)

  @property
  def distorts_images(self) -> bool:
    """Whether the step distorts the images, and not the host before it."""
    augmentation = build.build_augmentation(self.config)
    return parallel.platform(self.mesh) != "cpu" and augmentation.ends_with_distortions

  def initial_state(self) -> TrainState:
    """The state before the first step, on all devices."""
    state: TrainState = parallel.replicate(self.mesh, initial_values.draw(self.initial))
    return state

  def continued_from(self, state: TrainState) -> "Assembly":
    """The same for a run that continues from a state, whose schedule goes on from there."""
    durations = dataclasses.replace(
      self.durations, first_step=int(state.step), first_examples=int(state.examples)
    )
    schedule = build.build_schedule(self.config, durations)
    return dataclasses.replace(
      self,
      durations=durations,
      plan=Plan.of(self.config, durations),
      schedule=schedule,
      optimizer=build.build_optimizer(self.config, schedule),
    )


def prepare(
  config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None
) -> tuple[ml_collections.ConfigDict, Mesh]:
  """Checks all of a config that does not depend on its data.

  Args:
    config: of training; it is left as it is.
    devices: to train on; all by default.

  Returns:
    The config, complete, and the devices.

  Raises:
    UserError: a field is not valid, or the batch does not divide over the devices.
  """
  ranges.check(config)
  parallel.check_can_compile()
  mesh = parallel.make_mesh(devices)
  slow_cards.warn(mesh.devices.flat[0])
  parallel.check_batch(mesh, config.batch_size, config.accumulation_steps)
  return build.resolve(config), mesh


def assemble(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  num_classes: int,
  epoch_size: int,
  class_counts: Sequence[int] | None = None,
) -> Assembly:
  """Builds what a run is made of; nothing is computed yet.

  Args:
    config: as `prepare` returns it.
    mesh: the devices.
    num_classes: of the data.
    epoch_size: training images.
    class_counts: training images of each class, where they are known.

  Raises:
    UserError: a length is not valid, or images or groups do not fit the network.
  """
  durations = Durations(config.batch_size, epoch_size)
  plan = Plan.of(config, durations)
  schedule = build.build_schedule(config, durations)
  model = build.build_model(config, num_classes, mesh)
  optimizer = build.build_optimizer(config, schedule)
  initial = build.trace_initial_state(config, model, optimizer)
  parts = Assembly(
    config=config,
    mesh=mesh,
    num_classes=num_classes,
    durations=durations,
    plan=plan,
    schedule=schedule,
    model=model,
    optimizer=optimizer,
    initial=initial,
    mixing=build.build_mixing(config, mesh),
    class_weights=build.build_class_weights(config, class_counts),
  )
  frozen = layer_names.read_patterns(config.freeze)
  layer_names.check(frozen, parts.parameter_paths, "config.freeze")
  layer_names.check_known(
    layer_names.read_patterns(config.batch_norm.per_activation),
    _paths(initial.out_info.batch_stats),
    "config.batch_norm.per_activation",
    "layer with batch normalization",
  )
  return parts


def _paths(variables: Any) -> list[list[str]]:
  """The names of the modules that each array is in, from the root on, and its own."""
  return [[key.key for key in path] for path, _ in jax.tree.leaves_with_path(variables)]


def compile_step(
  parts: Assembly, normalization: Normalization | None = None
) -> jax.stages.Compiled:
  """The training step, compiled for the shapes of state and batch.

  Args:
    parts: of the run.
    normalization: of the weights that training starts from; None for the config's.
  """
  compiled = lower_step(parts, normalization).compile()
  freed_memory.give_back()
  return compiled


def lower_step(parts: Assembly, normalization: Normalization | None = None) -> jax.stages.Lowered:
  """The same before it is compiled."""
  config = parts.config
  step = make_train_step(
    parts.model,
    parts.optimizer,
    seed=config.seed,
    label_smoothing=config.label_smoothing,
    class_weights=parts.class_weights,
    mixing=parts.mixing,
    aux_weight=config.aux_weight,
    accumulation_steps=config.accumulation_steps,
    average_decay=build.average_decay(config),
    normalization=normalization or build.build_normalization(config),
    frozen=layer_names.read_patterns(config.freeze),
    axis_name=parallel.axis_name(config.parallel),
    gradient_sum_dtype=jnp.dtype(config.gradient_sum_dtype),
  )
  batch = batch_template(config.batch_size, config.data.image_size, parts.distorts_images)
  wrapped = parallel.jit_train_step(step, parts.mesh, config.parallel)
  return wrapped.lower(parts.state_template, batch)
