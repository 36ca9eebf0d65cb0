"""Files that the user names for a command to write."""

import json
import os
import pathlib
from typing import Any

from speedpaper_jax.errors import UserError


def check(path: pathlib.Path) -> None:
  """Raises a UserError if a file can surely not be written, before long work is done for it."""
  if path.is_dir():
    raise UserError(f"'{path}' is a directory; name a file in it.")
  if not path.parent.is_dir():
    raise UserError(f"{path} cannot be written: there is no directory '{path.parent}'.")
  if not os.access(path if path.exists() else path.parent, os.W_OK):
    raise UserError(f"{path} cannot be written: you may not write there.")


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file.

  Raises:
    UserError: it cannot be written.
  """
  write(path, json.dumps(content, indent=2) + "\n")


def write(path: pathlib.Path, text: str) -> None:
  """Writes a text file.

  Raises:
    UserError: it cannot be written.
  """
  try:
    path.write_text(text, encoding="utf-8")
  except OSError as error:
    raise UserError(f"{path} cannot be written: {error.strerror}.") from error
