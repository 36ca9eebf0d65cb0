"""Configs that directories hold, written by this version or by another one.

A directory lasts: what its config lacks has today's default, which is what the code did before
there was such a field; or what it did, where `_in_todays_words` says so. A field that today's code
does not know may have changed what was trained, and is refused, unless its value asks for nothing.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import speedpaper_jax
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError

# Options that version 0.1.0 had beside the optimiser's name → the optimisers that they were of, and
# what they are called in the sections of these.
_OPTIONS_OF_0_1_0 = {
  "momentum": (("sgd", "rmsprop"), "momentum"),
  "rmsprop_decay": (("rmsprop",), "decay"),
  "rmsprop_epsilon": (("rmsprop",), "eps"),
}

# Sections of a comparison that are configs of the experiment "train".
_TRAINING_SECTIONS = ("base", "source")


def complete(saved: Mapping[str, Any]) -> dict[str, Any]:
  """A saved config in today's words, laid over today's defaults.

  Args:
    saved: the content of a config.json.

  Returns:
    The same with a default for each field that it lacks. Of a comparison this is done with the
    config of its runs, `base`, and with that of the network that they start from, `source`; the
    experiments with small networks have their defaults in their config files, and stay as they
    were.

  Raises:
    UserError: it does not say of which experiment or network it is, a section is a value, or a
      field is not known and asks for something.
  """
  if "experiment" not in saved:
    raise UserError("There is no config.experiment.")
  if saved["experiment"] == "train":
    return _complete(saved, "config")
  return {
    key: _complete(value, f"config.{key}")
    if key in _TRAINING_SECTIONS and isinstance(value, Mapping)
    else value
    for key, value in saved.items()
  }


def _complete(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
  """Of a config of the experiment "train", which is called `name`."""
  if not isinstance(saved.get("model"), Mapping) or "name" not in saved["model"]:
    raise UserError(f"There is no {name}.model.name.")  # the default may be another network
  saved = _in_todays_words(saved)
  defaults = json.loads(train_config().to_json())
  for field, value in _unknown(defaults, saved, name):
    if value:
      raise UserError(
        f"{field} is {value!r:.80}, which version {speedpaper_jax.__version__} does not know; use "
        f"the version that wrote it, or a newer one."
      )
  return _lay_over(defaults, saved, name)


def _in_todays_words(saved: Mapping[str, Any]) -> Mapping[str, Any]:
  if saved["model"].get("dtype") == "bfloat16" and saved.get("parallel", "jit") == "jit":
    saved = {"gradient_sum_dtype": "bfloat16", **saved}
  optimizer = saved.get("optimizer")
  if not isinstance(optimizer, Mapping):
    return saved
  others = {key: value for key, value in optimizer.items() if key not in _OPTIONS_OF_0_1_0}
  chosen = optimizer.get("name")
  own = {
    option: optimizer[key]
    for key, (names, option) in _OPTIONS_OF_0_1_0.items()
    if key in optimizer and chosen in names
  }
  return {**saved, "optimizer": {**others, chosen: own} if own else others}


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
  """Names and values of what is saved and has no default.

  An optimiser without options here may have been given some by the config file.
  """
  for key, value in saved.items():
    if isinstance(value, Mapping):
      default = defaults.get(key, {})
      if key != saved.get("name"):
        yield from _unknown(default if isinstance(default, Mapping) else {}, value, f"{name}.{key}")
    elif key not in defaults:
      yield f"{name}.{key}", value
