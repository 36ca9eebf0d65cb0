"""Notices a training loop that stands still: names a stalled data pipeline, ends a long wait."""

import os
import threading
import time
from collections.abc import Callable

from speedpaper_jax.distributed.interrupts import START_AGAIN
from speedpaper_jax.errors import inform, warn

DATA_STALL_SECONDS = 30.0
_LOOKS_EVERY = 0.5  # seconds


class Watchdog:
  """A thread that looks at what the loop says it is doing, and for how long.

  A process that is lost is noticed by JAX's runtime, since it gives no sign of life. One that hangs
  in a file system that does not answer, for example, still gives them, and the others wait for it
  in their next exchange. Each of them, and the one that hangs, ends by its own watchdog.
  """

  def __init__(
    self,
    patience: float | None,
    data_stall_seconds: float = DATA_STALL_SECONDS,
    end: Callable[[int], None] = os._exit,
  ) -> None:
    """Starts the thread.

    Args:
      patience: seconds until the process ends; None for never, as there is nobody to wait for.
      data_stall_seconds: seconds of waiting for data until a warning.
      end: ends the process with a status.
    """
    self._patience = patience
    self._data_stall_seconds = data_stall_seconds
    self._end = end
    self._now: tuple[str, float, bool] | None = None  # what, since when, whether it is for data
    self._has_warned = False
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._check, name="watchdog", daemon=True)
    self._thread.start()

  def doing(self, what: str, for_data: bool = False) -> None:
    """Something new begins.

    Args:
      what: in words, as in "waiting for the images of step 3".
      for_data: whether it is waiting for a batch.
    """
    self._has_warned = False
    self._now = what, time.monotonic(), for_data

  def pause(self) -> None:
    """What begins now may take any time, such as compiling."""
    self._now = None

  def close(self) -> None:
    """Ends the thread."""
    self._closed.set()
    self._thread.join()

  def _check(self) -> None:
    while not self._closed.wait(_LOOKS_EVERY):
      if (now := self._now) is None:
        continue
      what, since, for_data = now
      seconds = time.monotonic() - since
      if for_data and seconds > self._data_stall_seconds and not self._has_warned:
        self._has_warned = True
        warn(
          f"the data pipeline is stalled: no batch for {seconds:.0f} seconds, {what}. Look at the "
          f"storage behind config.data.dir and at the processors of this host."
        )
      if self._patience is not None and seconds > self._patience:
        inform(
          f"Nothing has happened for {seconds:.0f} seconds, {what}. This process ends, so that all "
          f"can be started again; --patience sets the time."
        )
        self._end(START_AGAIN)
        return
