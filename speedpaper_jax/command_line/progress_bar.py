"""How far a long command has come: a bar on a terminal, a line a minute elsewhere."""

import time

import tqdm

from speedpaper_jax.errors import inform

_SECONDS_BETWEEN_LINES = 60.0


class ProgressBar:
  """Shows how many of so many are done, and when the others will be; on standard error."""

  def __init__(self, total: int, unit: str, what: str = "", done: int = 0) -> None:
    """Opens it.

    Args:
      total: how many there are.
      unit: in the plural, such as "images".
      what: stands before.
      done: how many were done before.
    """
    self._what = f"{what}: " if what else ""
    self._unit = unit
    self._shown_at = time.monotonic()
    self._bar = tqdm.tqdm(
      total=total, initial=done, unit=unit, desc=what or None, leave=False, disable=None
    )
    self._total, self._done, self._first = total, done, done
    self._began = time.monotonic()

  def update(self, done: int) -> None:
    """So many are done now, in all."""
    self._bar.update(done - self._done)
    self._done = done
    now = time.monotonic()
    if self._bar.disable and now - self._shown_at >= _SECONDS_BETWEEN_LINES:
      self._shown_at = now
      left = (self._total - done) * (now - self._began) / max(done - self._first, 1)
      inform(
        f"{self._what}{done:,} of {self._total:,} {self._unit}, "
        f"ETA {tqdm.tqdm.format_interval(left)}"
      )

  def close(self) -> None:
    """Takes it away."""
    self._bar.close()


class ProgressBars:
  """A bar for each of several things that are done one after the other."""

  def __init__(self, total: int, unit: str) -> None:
    """Opens none yet.

    Args:
      total: how many there are in each.
      unit: in the plural, such as "images".
    """
    self._total = total
    self._unit = unit
    self._bars: dict[str, ProgressBar] = {}

  def update(self, key: str, done: int, what: str = "") -> None:
    """So many are done now of one of them, whose bar begins with `what`."""
    if key not in self._bars:
      self._bars[key] = ProgressBar(self._total, self._unit, what, done)
    self._bars[key].update(done)

  def close(self, key: str) -> None:
    """Takes a bar away, if there is one."""
    if key in self._bars:
      self._bars[key].close()
