"""Questions about paths that the user names; what the system refuses is a UserError."""

import contextlib
import errno
import pathlib
import re
from collections.abc import Iterator

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import addresses


def expand(path: str) -> pathlib.Path:
  """Puts the home directory in the place of "~".

  Raises:
    UserError: there is none, or the path is an address of a bucket.
  """
  addresses.refuse(path)
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    raise UserError(
      f"'{path}' cannot be found, because there is no such home directory; name another directory "
      "with --config.data.dir, or set HOME."
    ) from error


def is_directory(path: pathlib.Path) -> bool:
  """Tells whether there is such a directory.

  Raises:
    UserError: one may not look, or a name is too long.
  """
  with _refusals(path):
    return path.is_dir()


def is_file(path: pathlib.Path) -> bool:
  """Tells whether there is such a file.

  Raises:
    UserError: one may not look, or a name is too long.
  """
  with _refusals(path):
    return path.is_file()


@contextlib.contextmanager
def _refusals(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise UserError(f"'{path}' cannot be looked at: {error.strerror}.") from error


def is_full(error: Exception) -> bool:
  """Tells whether something could not be written because a disk or a quota is full."""
  if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
    return True
  return re.search(r"No space left|Not enough disk space|quota exceeded", str(error)) is not None
