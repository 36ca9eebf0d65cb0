"""Ctrl-C and SIGTERM: finish the step, save, leave; a second signal ends the process at once."""

import signal
import types


class Interrupted(Exception):  # noqa: N818 - not an error
  """A run was asked to stop and has saved its state."""

  def __init__(self, signal_number: int, step: int) -> None:
    """Keeps which signal came, and the step that was saved."""
    super().__init__(f"Stopped by {signal.Signals(signal_number).name} after step {step}.")
    self.exit_status = 128 + signal_number  # what a shell reports for the signal


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
