"""Seconds since a process was started, by what they went into."""

import time


class Clock:
  """Of one process."""

  def __init__(self, started: float) -> None:
    """Takes the time at which another process began to start this one, `time.time()`."""
    self._last = started
    self.laps: dict[str, float] = {}

  def lap(self, name: str) -> None:
    """What has passed since the last lap went into this."""
    now = time.time()
    self.laps[name] = now - self._last
    self._last = now
