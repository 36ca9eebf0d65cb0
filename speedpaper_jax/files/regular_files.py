"""Files that somebody else may have put there: what is none is not opened."""

import pathlib
import stat

from speedpaper_jax.errors import UserError


def read(path: pathlib.Path) -> bytes:
  """The content of a file; a pipe or device, which may never end, is not waited for.

  Raises:
    OSError: it cannot be read, or is no regular file.
  """
  try:
    if not stat.S_ISREG(path.stat().st_mode):
      raise OSError(None, "it is no regular file")
    return path.read_bytes()
  except ValueError as error:  # of a null character
    raise OSError(None, str(error)) from error


def read_named(path: pathlib.Path, what: str) -> bytes:
  """The content of a file that the user has named, which is `what` in words.

  Raises:
    UserError: it cannot be read, or is no regular file.
  """
  try:
    return read(path)
  except FileNotFoundError:
    raise UserError(f"There is no file '{path}'; give the path of {what}.") from None
  except OSError as error:
    raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error
