"""Optimisers, learning-rate schedules, L2 and parameter averaging, from Optax's parts."""

import inspect
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.optimizers import OPTIONS
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.models import layer_names

PyTree = Any


_NO_OFFSET = Fraction(0)


def make_optimizer(
  config: ml_collections.ConfigDict,
  learning_rate: optax.Schedule,
  frozen: tuple[str, ...] = (),
) -> optax.GradientTransformation:
  """Builds the optimiser.

  Args:
    config: the `optimizer` section of a training config.
    learning_rate: step → rate.
    frozen: patterns of `layer_names`; L2 leaves what they choose out.

  Returns:
    L2 on the kernels, clipping of the gradient's global norm, the optimiser, the trunk's smaller
    rate, in this order: L2 is coupled, as a term ½·l2·‖w‖² of the loss would be, and so its
    gradient is clipped as well.

  Raises:
    UserError: Optax has no such optimiser, or it has other options.
  """

  def trained_kernels(params: PyTree) -> PyTree:
    chosen = layer_names.mask(params, frozen)
    return jax.tree.map(lambda kernel, held: kernel and not held, kernel_mask(params), chosen)

  def trunk(params: PyTree) -> PyTree:
    return layer_names.mask(params, [layer_names.TRUNK])

  parts = []
  if config.l2:
    parts.append(optax.add_decayed_weights(config.l2, mask=trained_kernels))
  if config.clip_norm:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  parts.append(_update_rule(config.name, config.get(config.name, {}), learning_rate))
  if config.trunk_rate != 1:
    parts.append(optax.masked(optax.scale(config.trunk_rate), trunk))
  return optax.chain(*parts)


def _update_rule(
  name: str, options: Mapping[str, Any], learning_rate: optax.Schedule
) -> optax.GradientTransformation:
  """An optimiser of Optax's by its name there.

  Raises:
    UserError: it has none of that name, or other options.
  """
  factory: Any = getattr(optax, name, None)
  is_function = callable(factory) and not inspect.isclass(factory)
  parameters = inspect.signature(factory).parameters if is_function else {}
  if "learning_rate" not in parameters:
    raise UserError(f"Optax has no optimizer '{name}'.{did_you_mean(name, OPTIONS)}")
  for option in options:
    if option not in parameters:
      raise UserError(
        f"The optimizer '{name}' has no option '{option}'.{did_you_mean(option, parameters)}"
      )
  chosen = dict(options)
  if not chosen.get("momentum", True):
    chosen["momentum"] = None  # for 0 Optax would keep a velocity all the same
  update_rule: optax.GradientTransformation = factory(learning_rate, **chosen)
  kernel = jax.ShapeDtypeStruct((2, 2), jnp.float32)
  try:
    jax.eval_shape(lambda w: update_rule.update(w, update_rule.init(w), w), kernel)
  except TypeError as error:  # as of those that search along a line
    raise UserError(
      f"The optimizer '{name}' needs more than gradients ({error!s:.100}); choose another."
    ) from error
  return update_rule


def kernel_mask(params: PyTree) -> PyTree:
  """True for the kernels of convolutions and fully connected layers; not for biases, γ and β."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path[-1:], simple=True).endswith("kernel"), params
  )


def make_schedule(
  config: ml_collections.ConfigDict,
  durations: Durations,
  total_steps: int,
  total_offset: Fraction = _NO_OFFSET,
) -> optax.Schedule:
  """Builds the learning rate as a function of the step.

  The rate is `learning_rate` at a batch of `base_batch_size` and grows in proportion to the batch.
  It rises linearly from zero during `warmup`; what follows is counted from step 0 all the same, so
  that a warm-up only lowers the first steps. After steps with other batches, what is given in
  epochs or examples follows the examples that were seen, and what is given in steps the steps.

  Args:
    config: the `optimizer` section of a training config.
    durations: batch and epoch sizes, and what was trained before.
    total_steps: length of the run; the cosine ends there at zero.
    total_offset: of what the length of the run is counted in, see `Durations.offset_of`.

  Raises:
    UserError: an unknown schedule or a bad duration.
  """
  section = config.schedule
  TRAIN["optimizer.schedule.name"].rule.check("config.optimizer.schedule.name", section.name)
  peak = config.learning_rate * durations.batch_size / config.base_batch_size
  schedule: optax.Schedule
  if section.name == "constant":
    schedule = optax.constant_schedule(peak)
  elif section.name == "exponential":
    field = "config.optimizer.schedule.interval"
    interval = durations.steps(section.interval, field)
    if interval <= 0:
      raise UserError("config.optimizer.schedule.interval must be longer than zero.")

    def exponential(step: Any) -> Any:
      # Optax's takes whole steps only, but "1.5 epochs" may be a fraction of a step more.
      intervals = step / interval
      return peak * section.factor ** (jnp.floor(intervals) if section.staircase else intervals)

    schedule = _later(exponential, durations.offset_of(section.interval, field))
  elif section.name == "step":
    scales: dict[int, float] = {}
    for boundary in section.boundaries:
      step = durations.last_step(boundary, "config.optimizer.schedule.boundaries")
      scales[step] = scales.get(step, 1.0) * section.factor
    schedule = optax.piecewise_constant_schedule(peak, scales)
  else:
    length = _number(total_steps + total_offset)
    # A cosine that is over already has no length to divide by.
    schedule = _later(optax.cosine_decay_schedule(peak, max(length, 1)), total_offset)
  field = "config.optimizer.schedule.warmup"
  warmup = durations.whole_steps(section.warmup, field)
  if not warmup:
    return schedule
  rising = _later(
    lambda step: jnp.minimum(1.0, (step + 1) / warmup), durations.offset_of(section.warmup, field)
  )
  return lambda step: schedule(step) * rising(step)


def _later(schedule: optax.Schedule, offset: Fraction) -> optax.Schedule:
  """The schedule of a run that has taken `offset` more steps than are counted."""
  shift = _number(offset)
  return (lambda step: schedule(step + shift)) if shift else schedule


def _number(value: Fraction) -> int | float:
  return int(value) if value.denominator == 1 else float(value)


def averaging_decay(decay: float, step: jax.Array) -> jax.Array:
  """Decay of the parameter average after `step` steps: min(d, (1 + n) / (10 + n)).

  Without the warm-up a short run would evaluate its random initial weights.
  """
  return jnp.minimum(decay, (1 + step) / (10 + step))
