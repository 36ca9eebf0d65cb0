"""Compiled programs are kept between processes; damaged ones are compiled and kept anew."""

import glob
import os
import pathlib
import re
import warnings
import zlib
from typing import Any

from speedpaper_jax import errors
from speedpaper_jax.files import user_cache

VARIABLE = "JAX_COMPILATION_CACHE_DIR"

# What JAX warns of, raw: of a program that it cannot read, and of one that it cannot keep.
_ENTRY = r"persistent compilation cache entry for '(.+?)': \w+: (.*)"
_READING = re.compile(f"Error reading {_ENTRY}", re.DOTALL)
_WRITING = re.compile(f"Error writing {_ENTRY}", re.DOTALL)

_show_others = warnings.showwarning
_has_warned = False


def set_up() -> None:
  """Keeps programs in the user's cache directory; the variable names another place."""
  global _has_warned, _show_others
  import jax

  _has_warned = False
  if VARIABLE not in os.environ:
    try:
      jax.config.update("jax_compilation_cache_dir", str(_own_directory()))
    except (OSError, RuntimeError) as error:
      _warn_that_nothing_is_kept(str(error).rstrip("."))
  if warnings.showwarning is not _show:
    _show_others, warnings.showwarning = warnings.showwarning, _show


def _own_directory() -> pathlib.Path:
  """Makes the default directory.

  Raises:
    OSError: it cannot be made.
    RuntimeError: nobody knows where the user is at home.
  """
  directory = user_cache.path("xla")
  directory.mkdir(parents=True, exist_ok=True)
  return directory


def _show(message: Warning | str, *arguments: Any, **named: Any) -> None:
  """In the place of `warnings.showwarning`, which gets all warnings that are not filtered out."""
  if found := _READING.fullmatch(str(message)):
    if _kept(found[1]):
      _mend(found[1])
    else:
      _warn_that_nothing_is_kept(found[2])
  elif found := _WRITING.fullmatch(str(message)):
    for path in _damaged(found[1]):  # the beginning of a program, without room for its end
      _remove(path)
    _warn_that_nothing_is_kept(found[2])
  else:
    _show_others(message, *arguments, **named)


def _warn_that_nothing_is_kept(reason: str) -> None:
  global _has_warned
  if not _has_warned:
    errors.warn(f"compiled programs are not kept ({reason}); name a place with {VARIABLE}.")
  _has_warned = True


def _mend(program: str) -> None:
  """JAX compiles what it cannot read, but would keep it only where no file is in the way."""
  removed = [_remove(path) for path in _damaged(program) or _kept(program)]
  kept = "kept anew" if all(removed) else "not kept, since its file cannot be removed"
  errors.warn(f"the kept program {program} is damaged; it is compiled and {kept}.")


def _kept(program: str) -> list[pathlib.Path]:
  """The files of all programs of a name, as JAX calls them."""
  import jax

  directory = pathlib.Path(jax.config.jax_compilation_cache_dir)  # type: ignore[attr-defined]
  return list(directory.glob(f"{glob.escape(program)}-*-cache"))


def _damaged(program: str) -> list[pathlib.Path]:
  """Those that cannot be unpacked: all, where JAX has packed them with Zstandard."""
  return [path for path in _kept(program) if not _is_whole(path)]


def _is_whole(path: pathlib.Path) -> bool:
  try:
    zlib.decompress(path.read_bytes())
  except (OSError, zlib.error):
    return False
  return True


def _remove(path: pathlib.Path) -> bool:
  try:
    path.unlink(missing_ok=True)
  except OSError:
    return False
  return True
