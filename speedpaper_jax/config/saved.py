"""Configs that directories hold, written by this version or by another one.

A directory lasts: what its config lacks has today's default, which is what the code did before
there was such a field. A field that today's code does not know may have changed what was trained,
and is refused, unless its value asks for nothing.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import speedpaper_jax
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError

_TRAIN = "train"


def complete(saved: Mapping[str, Any]) -> dict[str, Any]:
  """A saved config, laid over today's defaults.

  Args:
    saved: the content of a config.json.

  Returns:
    The same with a default for each field that it lacks. Of the experiments with small networks,
    whose defaults are in their config files, it is as it was.

  Raises:
    UserError: it does not say of which experiment or network it is, or a section is a value.
  """
  if "experiment" not in saved:
    raise UserError("There is no config.experiment.")
  completed = _lay_over(_defaults(saved), saved, "config")
  if saved["experiment"] == _TRAIN and "name" not in saved.get("model", {}):
    raise UserError("There is no config.model.name.")  # the default is another network, maybe
  return completed


def check_known(saved: Mapping[str, Any]) -> None:
  """Raises a UserError if a saved config has a field that today's code does not know.

  One whose value is false, zero or empty asks for nothing, which is what the code does anyway.
  """
  defaults, of_runs, name = _defaults(saved), saved, "config"
  if "base" in defaults:  # what a comparison has besides is its own
    defaults, of_runs, name = defaults["base"], saved["base"], "config.base"
  for field, value in _unknown(defaults, of_runs, name) if defaults else ():
    if value:
      raise UserError(
        f"{field} is {value!r:.80}, which version {speedpaper_jax.__version__} does not know; use "
        f"the version that wrote it, or a newer one."
      )


def _defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
  """As JSON has them; comparisons have those of their runs, the others none."""
  defaults: dict[str, Any] = json.loads(train_config().to_json())
  if saved.get("experiment") == _TRAIN:
    return defaults
  return {"base": defaults} if "base" in saved else {}


def _lay_over(defaults: Mapping[str, Any], saved: Mapping[str, Any], name: str) -> dict[str, Any]:
  merged = dict(defaults)
  for key, value in saved.items():
    default = defaults.get(key)
    if isinstance(default, Mapping):
      if not isinstance(value, Mapping):
        raise UserError(f"{name}.{key} is {value!r:.80}; it must be a section.")
      value = _lay_over(default, value, f"{name}.{key}")
    merged[key] = value
  return merged


def _unknown(
  defaults: Mapping[str, Any], saved: Mapping[str, Any], name: str
) -> Iterator[tuple[str, Any]]:
  """Names and values of what is saved and has no default."""
  for key, value in saved.items():
    if isinstance(value, Mapping):
      default = defaults.get(key, {})
      yield from _unknown(default if isinstance(default, Mapping) else {}, value, f"{name}.{key}")
    elif key not in defaults:
      yield f"{name}.{key}", value
