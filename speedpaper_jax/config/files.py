"""Reading config files: their arguments, their keys, and errors that name the nearest valid one."""

import ast
import dataclasses
import difflib
import os
import pathlib
import re
import runpy
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections

from speedpaper_jax.errors import UserError, did_you_mean, warn

_DIRECTORY = "configs"

# What a field is called elsewhere → the end of its name here.
_SYNONYMS = {
  "arch": "model.name",
  "bn_decay": "batch_norm.decay",
  "bn_epsilon": "batch_norm.epsilon",
  "bn_eps": "batch_norm.epsilon",
  "bn_momentum": "batch_norm.decay",
  "bs": "batch_size",
  "class_weight": "class_weights",
  "clip": "clip_norm",
  "clip_grad": "clip_norm",
  "crop_pct": "eval_central_fraction",
  "cutmix_alpha": "cutmix",
  "dataset": "data.name",
  "dropout": "dropout_rate",
  "ema": "average_decay",
  "ema_decay": "average_decay",
  "epochs": "duration",
  "eps": "epsilon",
  "freeze_layers": "freeze",
  "frozen": "freeze",
  "grad_accum": "accumulation_steps",
  "grad_clip": "clip_norm",
  "img_size": "image_size",
  "lr": "learning_rate",
  "max_grad_norm": "clip_norm",
  "max_steps": "duration",
  "mixup_alpha": "mixup",
  "num_epochs": "duration",
  "num_steps": "duration",
  "precision": "model.dtype",
  "pretrained": "init_from",
  "randaugment": "rand_augment",
  "rate": "learning_rate",
  "smoothing": "label_smoothing",
  "steps": "duration",
  "train_steps": "duration",
  "val_every": "eval_every",
  "warmup_epochs": "warmup",
  "warmup_steps": "warmup",
  "wd": "l2",
  "weight_decay": "l2",
}


def parse_arguments(text: str, **valid: Sequence[str] | str) -> dict[str, str]:
  """Reads the `key=value,key=value` that follows a config file's name.

  Args:
    text: what `get_config` was called with.
    **valid: for each key its valid values, the default first; or the default alone, where it may
      be any text.

  Returns:
    A value for each key.

  Raises:
    UserError: an unknown key or value, or a part that is not `key=value`.
  """
  values = {key: given if isinstance(given, str) else given[0] for key, given in valid.items()}
  for part in filter(None, text.split(",")):
    key, equals, value = part.partition("=")
    if not equals:
      raise UserError(f"The config argument '{part}' is not of the form key=value.")
    if key not in valid:
      raise UserError(f"The config has no argument '{key}'.{did_you_mean(key, valid)}")
    if not isinstance(valid[key], str) and value not in valid[key]:
      raise UserError(f"The config has no {key} '{value}'.{did_you_mean(value, valid[key])}")
    values[key] = value
  return values


def load(path_and_arguments: str) -> ml_collections.ConfigDict:
  """Runs `get_config` of a config file.

  Args:
    path_and_arguments: such as `configs/bn_inception.py:data=mnist`.

  Raises:
    UserError: there is no such file, it is not valid Python, fails or gives no config, or it
      refuses its arguments.
  """
  path, _, arguments = path_and_arguments.partition(":")
  if not os.path.isfile(path):  # pathlib's raises where the path is too long, or may not be read
    found = map(str, _config_paths(_DIRECTORY))
    raise UserError(f"There is no config file '{path}'.{did_you_mean(path, found)}")
  module = _run(path, lambda: runpy.run_path(path))
  if "get_config" not in module:
    raise UserError(f"'{path}' is no config file: it defines no function get_config.")
  config = _run(path, lambda: module["get_config"](arguments))
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"get_config of '{path}' returns {config!r:.80}, which is no ConfigDict.")
  return config


def _run(path: str, function: Callable[[], Any]) -> Any:
  """Runs what a config file holds, which may raise anything."""
  try:
    return function()
  except UserError:
    raise
  except SyntaxError as error:
    where = error.filename or path
    raise UserError(
      f"Line {error.lineno} of '{where}' is not valid Python: {error.msg}."
    ) from error
  except (Exception, SystemExit) as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    where = f"line {lines[-1]} of '{path}'" if lines else f"'{path}'"
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    raise UserError(f"The config cannot be made; {where} fails ({reason:.200}).") from error


def check_overrides(config: ml_collections.ConfigDict, argv: Sequence[str]) -> None:
  """Raises a UserError if a `--config.key=value` in `argv` names a key that `config` lacks."""
  valid = list(flat_keys(config))
  for argument in argv:
    match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
    if not match or match[1] in valid:
      continue
    key = match[1]
    nested = [name for name in valid if name.startswith(f"{key}.")]
    if nested:
      raise UserError(f"config.{key} is a section; set one of its keys: {', '.join(nested)}.")
    nearest = _nearest_key(key, valid)
    hint = f" Did you mean '{nearest}'?" if nearest else did_you_mean(key, valid)
    raise UserError(f"The config has no key '{key}'.{hint}")


def _nearest_key(key: str, valid: Sequence[str]) -> str | None:
  """The one with the same last part, which is what people remember, or one that means the same."""
  last = key.rpartition(".")[2].lower().replace("-", "_")
  ends = tuple(f".{name}" for name in (last, _SYNONYMS.get(last)) if name)
  same = [each for each in valid if f".{each}".endswith(ends)]
  return difflib.get_close_matches(key, same, n=1, cutoff=0)[0] if same else None


def flat_keys(config: ml_collections.ConfigDict, prefix: str = "") -> Iterator[str]:
  """Yields the dotted names of all fields that are not sections themselves."""
  for key in config:
    if isinstance(config[key], ml_collections.ConfigDict):
      yield from flat_keys(config[key], f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}"


@dataclasses.dataclass(frozen=True)
class Listed:
  """What a config file says of itself.

  Attributes:
    path: of the file.
    line: the first of its docstring, which says what it shows.
    minutes: that its first command takes on two CPU cores, from the words "4 minutes on two CPU
      cores" of the docstring; None where they are missing.
  """

  path: pathlib.Path
  line: str
  minutes: float | None


def _config_paths(directory: str) -> list[pathlib.Path]:
  return sorted(pathlib.Path(directory).glob("*.py"))


def list_configs(directory: str = _DIRECTORY) -> list[Listed]:
  """The config files of a directory that have a docstring.

  One that is no Python or cannot be read is left out, with a warning.
  """
  configs = []
  for path in _config_paths(directory):
    try:
      docstring = ast.get_docstring(ast.parse(path.read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
      reason = error.strerror if isinstance(error, OSError) else str(error) or "it is too deep"
      warn(f"the config '{path}' is left out: {reason}.")
      continue
    if docstring:
      configs.append(Listed(path, docstring.splitlines()[0], _minutes(docstring)))
  return configs


def _minutes(docstring: str) -> float | None:
  found = re.search(r"(\d+(?:\.\d+)?)\s+(minute|second)s?\s+on\s+two\s+CPU\s+cores", docstring)
  if found is None:
    return None
  return float(found[1]) / (1 if found[2] == "minute" else 60)
