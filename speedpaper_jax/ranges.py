"""The numbers that a training config may hold, and those that go together."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from speedpaper_jax.errors import UserError

_RANGES: Sequence[tuple[str, Callable[[Any], bool], Sequence[str]]] = (
  (
    "at least 1",
    lambda value: value >= 1,
    (
      "accumulation_steps",
      "batch_norm.population_batches",
      "batch_norm.virtual_batch_size",
      "batch_size",
      "checkpoints_to_keep",
      "data.image_size",
      "eval_batch_size",
      "optimizer.base_batch_size",
    ),
  ),
  (
    "above 0",
    lambda value: value > 0,
    (
      "batch_norm.epsilon",
      "model.initial_scale",
      "optimizer.learning_rate",
      "optimizer.rmsprop_epsilon",
    ),
  ),
  (
    "at least 0",
    lambda value: value >= 0,
    ("aux_weight", "optimizer.clip_norm", "optimizer.l2", "seed"),
  ),
  (
    "at least 0 and below 1",
    lambda value: 0 <= value < 1,
    (
      "average_decay",
      "batch_norm.decay",
      "label_smoothing",
      "model.dropout_rate",
      "optimizer.momentum",
      "optimizer.rmsprop_decay",
    ),
  ),
  (
    "above 0 and at most 1",
    lambda value: 0 < value <= 1,
    ("data.eval_central_fraction",),
  ),
  (
    "two fractions, the smaller first",
    lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1,
    ("data.augmentation.area_range",),
  ),
  (
    "three numbers above 0, or empty",
    lambda value: len(value) in (0, 3) and all(scale > 0 for scale in value),
    ("model.residual_scales",),
  ),
  (
    "durations, as in ('10 epochs', '20 epochs')",
    lambda value: all(isinstance(duration, str) for duration in value),
    ("optimizer.schedule.boundaries",),
  ),
)


def check(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if a number of the "train" experiment's config is out of its range.

  So it does if auxiliary heads have no weight in the loss, or a weight has no heads.
  """
  for rule, holds, keys in _RANGES:
    for key in keys:
      value = functools.reduce(getattr, key.split("."), config)
      try:
        valid = holds(value)
      except TypeError:  # text in a tuple
        valid = False
      if not valid:
        raise UserError(f"config.{key} is {value}; it must be {rule}.")
  _check_auxiliary_heads(config.model.aux_heads, config.aux_weight)


def _check_auxiliary_heads(present: bool, weight: float) -> None:
  if present and not weight:
    raise UserError(
      "The auxiliary heads of config.model.aux_heads would learn nothing with config.aux_weight=0; "
      "set config.aux_weight, to 0.4 for example, or config.model.aux_heads to False."
    )
  if weight and not present:
    raise UserError(
      f"config.aux_weight is {weight}, but the network has no auxiliary heads to weigh; "
      "set config.model.aux_heads, or config.aux_weight to 0."
    )
