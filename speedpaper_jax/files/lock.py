"""A lock on a directory: one process writes it at a time, on this machine and on others.

The kernel holds it, and lets go of it when the process ends, however that happens.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from speedpaper_jax.errors import UserError, inform, warn

NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_LONGEST_HOLDER = 200


@contextlib.contextmanager
def held(directory: pathlib.Path, *, wait: bool = False, flag: str = "--workdir") -> Iterator[None]:
  """Holds the lock of a directory inside; on a file system without locks it only warns.

  Args:
    directory: that exists; the file `.lock` is in it as long as the lock is held.
    wait: for another process that holds it.
    flag: of the command line, with which the user chooses another directory.

  Raises:
    UserError: another process holds it.
    OSError: the directory cannot be written.
  """
  path = directory / NAME
  descriptor = _acquire(path, wait, flag)
  try:
    yield
  finally:
    # While it is held: one that opened this file before finds that it is gone.
    with contextlib.suppress(OSError):
      path.unlink()
    os.close(descriptor)


def _acquire(path: pathlib.Path, wait: bool, flag: str) -> int:
  while True:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      holder = os.read(descriptor, _LONGEST_HOLDER).decode(errors="replace")
      if not wait:
        os.close(descriptor)
        raise UserError(_is_held(path, holder, flag)) from None
      inform(f"Note: waiting for {holder or 'another process'}, which writes '{path.parent}'.")
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        os.close(descriptor)
        raise
      warn(
        f"the file system of '{path.parent}' has no locks ({error.strerror}); see to it that no "
        f"other process writes there."
      )
      return descriptor
    if _is_there(path, descriptor):
      with contextlib.suppress(OSError):  # a full disk: the holder stays unknown
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _this_process().encode())
      return descriptor
    os.close(descriptor)


def _is_there(path: pathlib.Path, descriptor: int) -> bool:
  """Whether the file has not been removed by the one that held it before."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(descriptor))
  except FileNotFoundError:
    return False


def _this_process() -> str:
  return f"process {os.getpid()} on {socket.gethostname()}"


def _is_held(path: pathlib.Path, holder: str, flag: str) -> str:
  host = holder.rpartition(" on ")[2]
  gone = "" if host in ("", socket.gethostname()) else f"; if {host} is lost, remove {path}"
  return (
    f"Another process writes '{path.parent}' ({holder or 'it does not say which'}); wait for its "
    f"end, or choose another {flag}{gone}."
  )
