"""JSON as this package writes and reads it: strictly, and with the name of what is missing."""

import json
import math
import pathlib
from typing import Any

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import regular_files

_DEEPEST = 50  # sections in sections


class Section(dict[str, Any]):
  """An object of a JSON file; who asks it for a key that is not there gets a UserError."""

  def __init__(self, path: pathlib.Path, name: str, content: dict[str, Any]) -> None:
    """Takes the content over.

    Args:
      path: of the file.
      name: of the object in it, with dots; empty for the whole.
      content: of the object.
    """
    super().__init__(content)
    self._path = path
    self._name = name

  def __missing__(self, key: str) -> Any:
    full_name = f"{self._name}.{key}" if self._name else key
    raise UserError(f"{self._path} is damaged, or of another version: it has no '{full_name}'.")


def read(path: pathlib.Path) -> Section:
  """Reads a JSON file that holds one object.

  Raises:
    OSError: it cannot be read.
    ValueError: it holds something else, or one key twice.
  """
  content = loads(regular_files.read(path))
  if not isinstance(content, dict):
    raise ValueError("it holds no JSON object")
  section = _with_names(content, path, "")
  assert isinstance(section, Section)
  return section


def loads(text: bytes) -> Any:
  """Reads JSON in UTF-8, with a byte order mark or without.

  Earlier versions wrote numbers that are not finite as NaN and Infinity, which is no JSON but read.

  Raises:
    ValueError: it is none, or an object has one key twice, or it is nested too deeply.
  """
  try:
    content = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object)
  except RecursionError:
    raise ValueError("it is nested too deeply") from None
  _check_depth(content, 0)
  return content


def dumps(content: Any, indent: int | None = None) -> str:
  """Writes JSON; a number that is not finite becomes null."""
  return json.dumps(_without_infinities(content), indent=indent, allow_nan=False)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  content: dict[str, Any] = {}
  for key, value in pairs:
    if key in content:
      raise ValueError(f"'{key:.40}' stands there twice")
    content[key] = value
  return content


def _check_depth(content: Any, depth: int) -> None:
  if depth > _DEEPEST:
    raise ValueError("it is nested too deeply")
  if isinstance(content, dict | list):
    for value in content.values() if isinstance(content, dict) else content:
      _check_depth(value, depth + 1)


def _with_names(content: Any, path: pathlib.Path, name: str) -> Any:
  if not isinstance(content, dict):
    return content
  prefix = f"{name}." if name else ""
  sections = {key: _with_names(value, path, f"{prefix}{key}") for key, value in content.items()}
  return Section(path, name, sections)


def _without_infinities(content: Any) -> Any:
  if isinstance(content, dict):
    return {key: _without_infinities(value) for key, value in content.items()}
  if isinstance(content, list | tuple):
    return [_without_infinities(value) for value in content]
  return None if isinstance(content, float) and not math.isfinite(content) else content
