"""Optimisers, learning-rate schedules, L2 and parameter averaging, from Optax's parts."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.errors import UserError, did_you_mean

PyTree = Any


def _sgd(learning_rate: optax.Schedule, config: ml_collections.ConfigDict) -> Any:
  return optax.sgd(learning_rate, momentum=config.momentum or None)


def _adam(learning_rate: optax.Schedule, config: ml_collections.ConfigDict) -> Any:
  return optax.adam(learning_rate)


def _adagrad(learning_rate: optax.Schedule, config: ml_collections.ConfigDict) -> Any:
  return optax.adagrad(learning_rate)


def _rmsprop(learning_rate: optax.Schedule, config: ml_collections.ConfigDict) -> Any:
  # TensorFlow's: ε inside the square root, the accumulator starts at one, the rate is applied
  # before the momentum. The papers' "RMSProp with decay of 0.9 and ε = 1.0" is this one.
  return optax.rmsprop(
    learning_rate,
    decay=config.rmsprop_decay,
    eps=config.rmsprop_epsilon,
    initial_scale=1.0,
    eps_in_sqrt=True,
    momentum=config.momentum or None,
  )


OPTIMIZERS: dict[str, Callable[[optax.Schedule, ml_collections.ConfigDict], Any]] = {
  "sgd": _sgd,
  "adam": _adam,
  "adagrad": _adagrad,
  "rmsprop": _rmsprop,
}

SCHEDULES = ("constant", "exponential", "step", "cosine")
_NO_OFFSET = Fraction(0)


def make_optimizer(
  config: ml_collections.ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
  """Builds the optimiser.

  Args:
    config: the `optimizer` section of a training config.
    learning_rate: step → rate.

  Returns:
    L2 on the kernels, clipping of the gradient's global norm, the optimiser, in this order: L2 is
    coupled, as a term ½·l2·‖w‖² of the loss would be, and so its gradient is clipped as well.
  """
  if config.name not in OPTIMIZERS:
    raise UserError(
      f"There is no optimizer '{config.name}'.{did_you_mean(config.name, OPTIMIZERS)}"
    )
  parts = []
  if config.l2:
    parts.append(optax.add_decayed_weights(config.l2, mask=kernel_mask))
  if config.clip_norm:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  return optax.chain(*parts, OPTIMIZERS[config.name](learning_rate, config))


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
  elif section.name == "cosine":
    length = _number(total_steps + total_offset)
    # One that is over already has no length to divide by.
    schedule = _later(optax.cosine_decay_schedule(peak, max(length, 1)), total_offset)
  else:
    raise UserError(
      f"There is no schedule '{section.name}'.{did_you_mean(section.name, SCHEDULES)}"
    )
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
