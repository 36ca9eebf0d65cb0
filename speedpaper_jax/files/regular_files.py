"""Files that somebody else may have put there: what is none is not opened."""

import pathlib
import stat


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
