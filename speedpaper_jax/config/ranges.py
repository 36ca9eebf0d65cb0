"""What the fields of the experiments' configs may hold, and those that go together.

A config that a directory holds is checked as one of the command line is.
"""

import functools
from collections.abc import Mapping

import ml_collections

from speedpaper_jax.config import durations
from speedpaper_jax.data.augment import CROPS
from speedpaper_jax.data.crop import INTERPOLATIONS, RESIZES, SMALLEST_FRACTION
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.files.rules import (
  ABOVE_ZERO,
  AT_LEAST_ZERO,
  FINITE,
  FRACTION,
  FRACTION_BELOW_ONE,
  IMAGE_SIZE,
  NAME,
  ROWS,
  SEED,
  SWITCH,
  TEXT,
  Rule,
  between,
  one_of,
  range_of_fractions,
  several,
  whole,
)
from speedpaper_jax.models import registry
from speedpaper_jax.models.layers import ACTIVATIONS
from speedpaper_jax.steps import build, optim

# Of one example batch normalization would always make zero.
_NORMALIZED_ROWS = whole(2, 2**20)
_DURATION = Rule(
  "a duration, a number and a unit, as in '15 epochs', '200 steps' or '1e6 examples'",
  durations.is_valid,
)

TRAIN: Mapping[str, Rule] = {
  "experiment": NAME,
  "init_from": TEXT,
  "seed": SEED,
  "model.name": one_of(registry.MODELS),
  "model.dialect": TEXT,  # each network has its own: `_check_dialect`
  "model.activation": one_of(ACTIVATIONS),
  "model.local_response_norm": SWITCH,
  "model.dropout_rate": FRACTION_BELOW_ONE,
  "model.initial_scale": ABOVE_ZERO,
  "model.aux_heads": SWITCH,
  "model.residual_scales": Rule(
    "three numbers above 0, or empty",
    lambda value: several(ABOVE_ZERO, 3, 3).holds(value) or value in ((), []),
  ),
  "model.dtype": one_of(build.DTYPES),
  "batch_norm.enabled": SWITCH,
  "batch_norm.epsilon": ABOVE_ZERO,
  "batch_norm.decay": FRACTION_BELOW_ONE,
  "batch_norm.unbiased_running_variance": SWITCH,
  "batch_norm.statistics": one_of(build.STATISTICS),
  "batch_norm.virtual_batch_size": ROWS,
  "batch_norm.inference": one_of(build.INFERENCE),
  "batch_norm.population_batches": ROWS,
  "data.name": NAME,
  "data.dir": TEXT,
  "data.train_split": NAME,
  "data.eval_split": NAME,
  "data.image_size": IMAGE_SIZE,
  "data.eval_central_fraction": between(SMALLEST_FRACTION, 1),
  "data.eval_resize": one_of(RESIZES),
  "data.eval_interpolation": one_of(INTERPOLATIONS),
  "data.augmentation.crop": one_of(CROPS),
  "data.augmentation.shift": whole(0, 4096),
  "data.augmentation.area_range": range_of_fractions(),
  "data.augmentation.flip": SWITCH,
  "data.augmentation.photometric": FRACTION,
  "batch_size": ROWS,
  "eval_batch_size": ROWS,
  "accumulation_steps": ROWS,
  "duration": _DURATION,
  "optimizer.name": one_of(optim.OPTIMIZERS),
  "optimizer.learning_rate": ABOVE_ZERO,
  "optimizer.base_batch_size": ROWS,
  "optimizer.momentum": FRACTION_BELOW_ONE,
  "optimizer.rmsprop_decay": FRACTION_BELOW_ONE,
  "optimizer.rmsprop_epsilon": ABOVE_ZERO,
  "optimizer.l2": AT_LEAST_ZERO,
  "optimizer.clip_norm": AT_LEAST_ZERO,
  "optimizer.schedule.name": one_of(optim.SCHEDULES),
  "optimizer.schedule.factor": ABOVE_ZERO,
  "optimizer.schedule.interval": _DURATION,
  "optimizer.schedule.staircase": SWITCH,
  "optimizer.schedule.boundaries": Rule(
    "durations, as in ('10 epochs', '20 epochs')", several(_DURATION).holds
  ),
  "optimizer.schedule.warmup": _DURATION,
  "label_smoothing": FRACTION_BELOW_ONE,
  "aux_weight": AT_LEAST_ZERO,
  "average_decay": FRACTION_BELOW_ONE,
  "parallel": one_of(parallel.MODES),
  "log_every": _DURATION,
  "eval_every": _DURATION,
  "evaluate_training_images": SWITCH,
  "checkpoint_every": _DURATION,
  "checkpoints_to_keep": ROWS,
  "keep_best": SWITCH,
}

_SIDE_BY_SIDE: Mapping[str, Rule] = {
  "experiment": NAME,
  "seed": SEED,
  "batch_size": _NORMALIZED_ROWS,
  "optimizer.name": one_of(("sgd", "adam")),
  "optimizer.momentum": FRACTION_BELOW_ONE,
  "batch_norm.epsilon": ABOVE_ZERO,
  "batch_norm.decay": FRACTION_BELOW_ONE,
}
_DATA: Mapping[str, Rule] = {
  "data.name": NAME,
  "data.dir": TEXT,
  "data.train_split": NAME,
  "data.eval_split": NAME,
}
_LAYERS = whole(1, 10_000)
_REPLICAS = whole(1, 10_000)
_STEPS = whole(1, 2**31 - 1)

_COMPARISON: Mapping[str, Rule] = {
  "experiment": NAME,
  **{f"base.{key}": rule for key, rule in TRAIN.items()},
  "rate_factors": several(ABOVE_ZERO, 1),
  "seeds": several(SEED, 1),
}

BENEFITS = ("lr", "init", "dropout", "l2", "lrn", "batch_size")  # factors that it has reports of

# Experiment → dotted name of a field → what it may hold.
RANGES: Mapping[str, Mapping[str, Rule]] = {
  "train": TRAIN,
  "bn_fc": {
    **_SIDE_BY_SIDE,
    "optimizer.learning_rate": ABOVE_ZERO,
    "activation": one_of(ACTIVATIONS),
    "input_batch_norm": SWITCH,
    "train_examples": _NORMALIZED_ROWS,
    "test_examples": _NORMALIZED_ROWS,
    "hidden_layers": whole(2, 10_000),  # the report tells the first from the last
    "hidden_units": ROWS,
    "initial_std": ABOVE_ZERO,
    "initial_bias": FINITE,
    "epochs": whole(0, 2**20),
  },
  "bn_init": {
    **_SIDE_BY_SIDE,
    **_DATA,
    "deep.initializers": several(NAME, 1),
    "deep.layers": whole(2, 10_000),
    "deep.units": ROWS,
    "deep.batch_size": _NORMALIZED_ROWS,
    "deep.seeds": _REPLICAS,
    "trained.layers": _LAYERS,
    "trained.units": ROWS,
    "trained.scales": several(ABOVE_ZERO, 1),
    "trained.learning_rates": several(ABOVE_ZERO, 1),
    "trained.seeds": _REPLICAS,
    "trained.steps": _STEPS,
  },
  "mnist_bn": {
    **_SIDE_BY_SIDE,
    **_DATA,
    "optimizer.learning_rate": ABOVE_ZERO,
    "hidden_layers": _LAYERS,
    "hidden_units": ROWS,
    "initial_std": ABOVE_ZERO,
    "steps": _STEPS,
    "measure_every": _STEPS,
    "measured_examples": _NORMALIZED_ROWS,
  },
  "covariate_shift": {
    **_SIDE_BY_SIDE,
    **_DATA,
    "data.image_size": IMAGE_SIZE,
    "optimizer.learning_rate": ABOVE_ZERO,
    "steps": _STEPS,
    "measure_every": _STEPS,
    "measured_examples": _NORMALIZED_ROWS,
  },
  "bn_variants": {**_COMPARISON, "baseline": NAME},
  "bn_benefits": {**_COMPARISON, "benefit": one_of(BENEFITS), "factor_values": several(FINITE, 1)},
}


def check(config: ml_collections.ConfigDict, experiment: str = "train") -> None:
  """Raises a UserError if a field of a config is missing, of another type or out of its range.

  So it does if auxiliary heads have no weight in the loss, or a weight has no heads.
  """
  check_fields(config, experiment)
  if experiment == "train":
    _check_auxiliary_heads(config.model.aux_heads, config.aux_weight)


def check_fields(config: ml_collections.ConfigDict, experiment: str = "train") -> None:
  """The same for each field by itself, as of a network whose training is over."""
  for key, rule in RANGES[experiment].items():
    try:
      value = functools.reduce(lambda section, name: section[name], key.split("."), config)
    except (KeyError, TypeError):  # a section is a value
      raise UserError(
        f"There is no config.{key}, which the experiment '{experiment}' needs."
      ) from None
    rule.check(f"config.{key}", value)
  if experiment == "train":
    registry.find_dialect(config.model.name, config.model.dialect)


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
