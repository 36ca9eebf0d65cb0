"""Ctrl-C and SIGTERM: finish the step, save, leave; a second signal ends the process at once."""

import os
import signal
import types

# "Start me again": os.EX_TEMPFAIL, a failure that the same command may not meet again. Launchers
# and batch systems do so; a user's mistake, status 1, would only be repeated.
START_AGAIN = os.EX_TEMPFAIL


class Interrupted(Exception):  # noqa: N818 - not an error
  """A run was asked to stop and has saved its state.

  Attributes:
    exit_status: of the process.
  """

  def __init__(self, cause: str, step: int, exit_status: int) -> None:
    """Keeps by what it was stopped, and the step that was saved."""
    super().__init__(f"Stopped by {cause} after step {step}.")
    self.exit_status = exit_status


class StopSignal:
  """While entered, notes the first SIGINT or SIGTERM instead of dying of it."""

  def __init__(self) -> None:
    """Nothing has come yet."""
    self.number: int | None = None

  def __enter__(self) -> "StopSignal":
    self._previous = {
      number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    return self

  def _note(self, number: int, frame: types.FrameType | None) -> None:
    self.number = number
    for each in self._previous:
      signal.signal(each, signal.SIG_DFL)

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def came(self, step: int) -> Interrupted | None:
    """What to raise, once `step` is saved, if a signal has come; else None."""
    if self.number is None:
      return None
    # SIGTERM is how batch systems and clouds take a machine away; Ctrl-C is a person's wish.
    status = START_AGAIN if self.number == signal.SIGTERM else 128 + self.number
    return Interrupted(signal.Signals(self.number).name, step, status)
