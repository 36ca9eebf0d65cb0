"""Standard output, wherever it leads: to any encoding, to a full disk, to nobody."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from speedpaper_jax.distributed import interrupts
from speedpaper_jax.errors import UserError, printable_lines, warn


class StandardOutput:
  """In the place of `sys.stdout`: what a program prints, as its terminal or file can take it.

  What the encoding lacks is escaped, and so are control characters, since names that others chose
  may hold some. Where a write fails, it raises

    UserError: there is no room, or standard output is closed;
    BrokenPipeError: the reader has left, as `| head` does.

  A run that saves its state goes on instead, see `go_on`.
  """

  def __init__(self, stream: io.TextIOWrapper) -> None:
    """Takes the place of a stream."""
    stream.reconfigure(errors="backslashreplace")
    self._stream = stream
    self._goes_on = False
    self._is_lost = False

  def __getattr__(self, name: str) -> Any:
    """Everything else is the stream's own."""
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Writes text, with escapes for control characters."""
    if not self._is_lost:
      with self._failing():
        self._stream.write(printable_lines(text))
    return len(text)

  def flush(self) -> None:
    """Writes what is kept."""
    if not self._is_lost:
      with self._failing():
        self._stream.flush()

  def go_on(self) -> None:
    """From now on the work is worth more than what it prints: it goes on where that is lost.

    Where the reader has left, a run that can save its state does so and stops.
    """
    self._goes_on = True

  @contextlib.contextmanager
  def _failing(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      self._is_lost = True
      self._discard()
      if isinstance(error, BrokenPipeError):
        if not interrupts.reader_left():
          raise
      elif self._goes_on:
        warn(f"standard output cannot be written ({error.strerror}); the run goes on without it.")
      else:
        raise UserError(f"Standard output cannot be written: {error.strerror}.") from error

  def _discard(self) -> None:
    """The stream keeps what it could not write, and would fail with it again at the end."""
    with contextlib.suppress(OSError):  # among them: it has no descriptor
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, self._stream.fileno())
      os.close(nowhere)


def install() -> None:
  """Makes standard output a `StandardOutput`, and fills standard streams that are closed.

  Otherwise the next file that is opened would be the one that libraries print to.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # the lowest that is free
  if sys.stderr is None:
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
  if sys.stdout is None:
    # One that cannot be written, so that it is an error.
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout = StandardOutput(sys.stdout)


def send_to(descriptor: int) -> None:
  """Standard output leads to another descriptor from now on."""
  present = sys.stdout
  present.flush()
  stream = os.fdopen(descriptor, "w", encoding=present.encoding, errors=present.errors)
  sys.stdout = StandardOutput(stream)


def go_on() -> None:
  """See `StandardOutput.go_on`; of another stream nothing is known."""
  if isinstance(sys.stdout, StandardOutput):
    sys.stdout.go_on()
