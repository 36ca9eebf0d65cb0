"""Whether the values of a config are such as its experiment takes, and go together.

A config that a directory holds is checked as one of the command line is.
"""

import functools
from collections.abc import Mapping

import ml_collections

from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.config.files import flat_keys
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.files.rules import Rule


def check(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if a training config is not valid.

  A field is missing, unknown, of another type or out of its range; or auxiliary heads have no
  weight in the loss, or a weight has no heads; or gradients would be summed in less than they have.
  """
  _check_each_field(config)
  _check_known(config)
  _check_auxiliary_heads(config.model.aux_heads, config.aux_weight)
  _check_gradient_sums(config.gradient_sum_dtype, config.model.dtype)
  _check_dialect(config.model)


def check_train_fields(config: ml_collections.ConfigDict) -> None:
  """The same for each field by itself, as of a network whose training is over."""
  _check_each_field(config)
  _check_dialect(config.model)


def _check_each_field(config: ml_collections.ConfigDict) -> None:
  check_fields(config, {name: field.rule for name, field in TRAIN.items()}, "train")


def _check_dialect(model: ml_collections.ConfigDict) -> None:
  # Not imported above, and asked last: with it comes JAX, which other mistakes need not wait for.
  from speedpaper_jax.models import registry

  registry.find_dialect(model.name, model.dialect)


def check_fields(
  config: ml_collections.ConfigDict, rules: Mapping[str, Rule], experiment: str
) -> None:
  """Raises a UserError if a field is missing, of another type or out of its range.

  Args:
    config: of any experiment.
    rules: what its fields may be, by dotted names.
    experiment: its name, for the message.
  """
  for key, rule in rules.items():
    try:
      value = functools.reduce(lambda section, name: section[name], key.split("."), config)
    except (KeyError, TypeError):  # a section is a value
      raise UserError(
        f"There is no config.{key}, which the experiment '{experiment}' needs."
      ) from None
    rule.check(f"config.{key}", value)


def _check_known(config: ml_collections.ConfigDict) -> None:
  """An optimiser without options here has those that its config file gives it."""
  own = f"optimizer.{config.optimizer.name}."
  for key in flat_keys(config):
    if key not in TRAIN and not key.startswith(own):
      raise UserError(f"There is no field config.{key}.{did_you_mean(key, TRAIN)}")


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


def _check_gradient_sums(dtype: str, dtype_of_network: str) -> None:
  if dtype == "bfloat16" and dtype_of_network == "float32":
    raise UserError(
      "config.gradient_sum_dtype='bfloat16' is for networks that compute in bfloat16; "
      "set config.model.dtype=bfloat16, or config.gradient_sum_dtype=float32."
    )
