"""Files that the user names for a command to write.

They are checked before the work, and written whole or not at all. One that is there already is
replaced, but not one that the command reads, nor one of a run. Pipes and terminals, such as
/dev/stdout, are written as they are.
"""

import io
import json
import os
import pathlib
import shutil
import stat
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from speedpaper_jax.errors import UserError

# What a run's directory or a converted network's holds, see `run_directory`.
_FILES_OF_A_RUN = (
  "config.json",
  "data.json",
  "model.json",
  "metrics.jsonl",
  "undecodable.jsonl",
  "sessions.json",
  "predictions.json",
  "summary.json",
  "arrays.npz",
  "probabilities.npz",
  "report.html",
)
_DIRECTORIES_OF_A_RUN = ("checkpoints", "tensorboard", "plots")


def check_all(
  outputs: Mapping[str, pathlib.Path | None], inputs: Iterable[pathlib.Path] = ()
) -> None:
  """Raises a UserError if a file can surely not be written, or should not be.

  Args:
    outputs: by the names of their flags; None where a flag is not given.
    inputs: files that the command reads.
  """
  given = {flag: path for flag, path in outputs.items() if path is not None}
  for path in given.values():
    check(path)
  flags: dict[pathlib.Path, str] = {}
  for flag, path in given.items():
    other = flags.setdefault(path.resolve(), flag)
    if other != flag:
      raise UserError(f"{other} and {flag} both name '{path}'; name two files.")
  there = {_identity(found): path for path in given.values() if (found := _stat(path))}
  for path in inputs if there else ():
    try:
      identity = _identity(path.stat())
    except OSError:  # reported when it is read
      continue
    if identity in there:
      raise UserError(f"'{there[identity]}' is to be read; name another file to write.")


def check(path: pathlib.Path) -> None:
  """Raises a UserError if one file can surely not be written, or is one of a run."""
  found = _stat(path)
  if found is not None and stat.S_ISDIR(found.st_mode):
    raise UserError(f"'{path}' is a directory; name a file in it.")
  if found is not None and not stat.S_ISREG(found.st_mode):
    if stat.S_ISBLK(found.st_mode) or not os.access(path, os.W_OK):
      raise UserError(f"{path} cannot be written: it is a device; name a file.")
    return
  parent = path.resolve().parent  # of what a link names
  if not parent.is_dir():
    raise UserError(f"{path} cannot be written: there is no directory '{path.parent}'.")
  if not os.access(parent, os.W_OK) or (found is not None and not os.access(path, os.W_OK)):
    raise UserError(f"{path} cannot be written: you may not write there.")
  if _is_of_a_run(path.resolve()):
    raise UserError(f"'{path}' is a file of a run; name another one.")


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file, whole or not at all.

  Raises:
    UserError: it cannot be written.
    ValueError: a number is not finite, for which JSON has no word.
  """
  write(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an .npz file of numbers, whole or not at all.

  Raises:
    UserError: it cannot be written.
  """
  content = io.BytesIO()
  np.savez(content, allow_pickle=False, **arrays)
  write_bytes(path, content.getvalue())


def write(path: pathlib.Path, text: str) -> None:
  """Writes a text file in UTF-8, whole or not at all; what is no valid text becomes "?".

  Raises:
    UserError: it cannot be written.
  """
  write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file, whole or not at all.

  Raises:
    UserError: it cannot be written.
  """
  try:
    if path.exists() and not path.is_file():
      _write_as_it_is(path, content)
      return
    whole = path.resolve()  # a link stays one
    beside = whole.with_name(f".{os.getpid()}.tmp")
    try:
      beside.write_bytes(content)
      if whole.exists():
        shutil.copymode(whole, beside)
      beside.replace(whole)
    finally:
      beside.unlink(missing_ok=True)
  except OSError as error:
    raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def _write_as_it_is(path: pathlib.Path, content: bytes) -> None:
  """To a pipe or a terminal; an error at once if nobody reads it."""
  descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
  os.set_blocking(descriptor, True)
  with os.fdopen(descriptor, "wb") as file:
    file.write(content)


def _stat(path: pathlib.Path) -> os.stat_result | None:
  """None for what is not there.

  Raises:
    UserError: the system does not say, since a name is too long or a directory is locked.
  """
  try:
    return path.stat()
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def _identity(found: os.stat_result) -> tuple[int, int]:
  return found.st_dev, found.st_ino


def _is_of_a_run(path: pathlib.Path) -> bool:
  """Whether a run has, or may have later, such a file."""
  name = path.name
  for directory in path.parents:
    is_run = (directory / "config.json").is_file() and any(
      (directory / other).exists() for other in ("model.json", "summary.json", "checkpoints")
    )
    inside = name in _FILES_OF_A_RUN if directory == path.parent else name in _DIRECTORIES_OF_A_RUN
    if is_run and inside:
      return True
    name = directory.name
  return False
