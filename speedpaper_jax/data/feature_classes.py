"""The Python classes that a prepared data set names in its features.json.

TFDS imports them by these names from wherever Python finds them, the current directory included, so
that somebody else's data set could bring code of its own and have it run.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from speedpaper_jax.errors import UserError

_OWN = frozenset(
  f"{value.__module__}.{value.__name__}"
  for value in vars(tfds.features).values()
  if isinstance(value, type) and issubclass(value, tfds.features.FeatureConnector)
)

# In protocol buffers' JSON, which has a field's name in two forms, and in TFDS's older form.
_KEYS = ("pythonClassName", "python_class_name", "type")


def check(directory: Path) -> None:
  """Checks that opening a prepared data set runs no code but TFDS's own.

  Args:
    directory: of one version, with features.json.

  Raises:
    UserError: features.json names a class that is none of `tfds.features`.
    OSError, ValueError, RecursionError: it cannot be read.
  """
  content = json.loads((directory / "features.json").read_text(encoding="utf-8"))
  for name in _named(content):
    if name not in _OWN:
      raise UserError(
        f"{directory / 'features.json'} names the class '{name:.200}', which is none of TFDS's own "
        "features, and reading the data set would run its code; prepare the data set again with "
        "features of tfds.features."
      )


def _named(content: Any) -> Iterator[str]:
  """The names of classes anywhere in JSON, also in JSON that stands there as text."""
  if isinstance(content, dict):
    for key, value in content.items():
      if isinstance(value, str) and key in _KEYS:
        yield value
      else:
        yield from _named(value)
  elif isinstance(content, list):
    for value in content:
      yield from _named(value)
  elif isinstance(content, str) and content.lstrip().startswith(("{", "[")):
    yield from _named(_parsed(content))


def _parsed(text: str) -> Any:
  try:
    return json.loads(text)
  except ValueError:  # a description that begins with a bracket
    return None
