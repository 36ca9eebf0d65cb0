"""Requests to stop: finish the step, save, leave; a second signal ends the process at once.

They are Ctrl-C, SIGTERM, the terminal's end (SIGHUP, unless `nohup` has it ignored), and that
nobody reads standard output any more, which counts as SIGPIPE.
"""

import os
import signal
import types
from typing import Protocol

# "Start me again": os.EX_TEMPFAIL, a failure that the same command may not meet again. Launchers
# and batch systems do so; a user's mistake, status 1, would only be repeated.
START_AGAIN = os.EX_TEMPFAIL


CONTINUES = "The same command with the same --workdir continues."


class Interrupted(Exception):  # noqa: N818 - not an error
  """A run was asked to stop and has saved its state.

  Attributes:
    exit_status: of the process.
    continues: what to do to go on, in a sentence.
  """

  def __init__(self, cause: str, place: str, exit_status: int, continues: str = CONTINUES) -> None:
    """Keeps by what it was stopped, and up to which place, such as "step 12", all is saved."""
    super().__init__(f"Stopped by {cause} after {place}.")
    self.exit_status = exit_status
    self.continues = continues


class Stopping(Protocol):
  """What takes requests to stop while it is entered."""

  def reader_left(self) -> None:
    """Nobody reads standard output any more."""


_entered: Stopping | None = None


def entered(stopping: Stopping | None) -> None:
  """Says who takes requests to stop now, if anybody does."""
  global _entered
  _entered = stopping


def reader_left() -> bool:
  """Tells a run that nobody reads its output; False where there is none that could save itself."""
  if _entered is None:
    return False
  _entered.reader_left()
  return True


def fatal_signals() -> list[signal.Signals]:
  """What asks a process to stop; not SIGHUP where it is ignored, as `nohup` has it."""
  hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
  return [signal.SIGINT, signal.SIGTERM, *hang_up]


class StopSignal:
  """While entered, notes the first request to stop instead of dying of it."""

  def __init__(self) -> None:
    """Nothing has come yet."""
    self.number: int | None = None

  def __enter__(self) -> "StopSignal":
    self._previous = {number: signal.signal(number, self._note) for number in fatal_signals()}
    entered(self)
    return self

  def _note(self, number: int, frame: types.FrameType | None) -> None:
    self.number = number
    for each in self._previous:
      # The end of a terminal is signalled twice, by the shell and by the system.
      signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)

  def reader_left(self) -> None:
    """Counts as the signal of a pipe that nobody reads."""
    if self.number is None:
      self.number = signal.SIGPIPE

  def __exit__(self, *exception: object) -> None:
    entered(None)
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def requested(self, place: str, continues: str = CONTINUES) -> Interrupted | None:
    """What to raise, once all up to `place` is saved, if a signal has come; else None."""
    if self.number is None:
      return None
    # SIGTERM is how batch systems and clouds take a machine away, and a terminal may be lost by
    # accident; Ctrl-C and the end of a pipe are a person's wish.
    by_others = self.number in (signal.SIGTERM, signal.SIGHUP)
    status = START_AGAIN if by_others else 128 + self.number
    return Interrupted(signal.Signals(self.number).name, place, status, continues)
