"""Reading config files: their arguments, their keys, and errors that name the nearest valid one."""

import ast
import dataclasses
import pathlib
import re
import runpy
from collections.abc import Iterator, Sequence

import ml_collections

from speedpaper_jax.errors import UserError, did_you_mean


def parse_arguments(text: str, **valid: Sequence[str]) -> dict[str, str]:
  """Reads the `key=value,key=value` that follows a config file's name.

  Args:
    text: what `get_config` was called with.
    **valid: for each key its valid values, the default first.

  Returns:
    A value for each key.

  Raises:
    UserError: an unknown key or value, or a part that is not `key=value`.
  """
  values = {key: choices[0] for key, choices in valid.items()}
  for part in filter(None, text.split(",")):
    key, equals, value = part.partition("=")
    if not equals:
      raise UserError(f"The config argument '{part}' is not of the form key=value.")
    if key not in valid:
      raise UserError(f"The config has no argument '{key}'.{did_you_mean(key, valid)}")
    if value not in valid[key]:
      raise UserError(f"The config has no {key} '{value}'.{did_you_mean(value, valid[key])}")
    values[key] = value
  return values


def load(path_and_arguments: str) -> ml_collections.ConfigDict:
  """Runs `get_config` of a config file.

  Args:
    path_and_arguments: such as `configs/bn_inception.py:data=mnist`.

  Raises:
    UserError: there is no such file, it is not valid Python or gives no config, or it refuses its
      arguments.
  """
  path, _, arguments = path_and_arguments.partition(":")
  if not pathlib.Path(path).is_file():
    found = [str(config.path) for config in list_configs()]
    raise UserError(f"There is no config file '{path}'.{did_you_mean(path, found)}")
  try:
    module = runpy.run_path(path)
  except SyntaxError as error:
    raise UserError(f"Line {error.lineno} of '{path}' is not valid Python: {error.msg}.") from error
  if "get_config" not in module:
    raise UserError(f"'{path}' is no config file: it defines no function get_config.")
  config = module["get_config"](arguments)
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(f"get_config of '{path}' returns {config!r:.80}, which is no ConfigDict.")
  return config


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
    # The last part of a dotted name is what people remember.
    last_parts = {name.rpartition(".")[2]: name for name in valid}
    nearest = last_parts.get(key.rpartition(".")[2])
    hint = f" Did you mean '{nearest}'?" if nearest else did_you_mean(key, valid)
    raise UserError(f"The config has no key '{key}'.{hint}")


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


def list_configs(directory: str = "configs") -> list[Listed]:
  """The config files of a directory that have a docstring."""
  configs = []
  for path in sorted(pathlib.Path(directory).glob("*.py")):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if docstring:
      configs.append(Listed(path, docstring.splitlines()[0], _minutes(docstring)))
  return configs


def _minutes(docstring: str) -> float | None:
  found = re.search(r"([\d.]+)\s+(minute|second)s?\s+on\s+two\s+CPU\s+cores", docstring)
  if found is None:
    return None
  return float(found[1]) / (1 if found[2] == "minute" else 60)
