"""How fast a training loop is, and what of the machine it uses."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from speedpaper_jax.compilation import chips


class Clock:
  """Time in all, and time of training alone in windows between log lines."""

  def __init__(self, seconds_before: float) -> None:
    """Starts both.

    Args:
      seconds_before: of earlier sessions of the run.
    """
    self._began = time.monotonic() - seconds_before
    self.start_window()

  def total_seconds(self) -> float:
    """Since the run began, over all its sessions."""
    return time.monotonic() - self._began

  def start_window(self) -> None:
    """Forgets the window before."""
    self._window_began = time.monotonic()
    self._data_wait = 0.0

  def window(self) -> tuple[float, float]:
    """Seconds of the window so far, and how many of them `data_wait` took."""
    return time.monotonic() - self._window_began, self._data_wait

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """What happens inside does not count to the window."""
    began = time.monotonic()
    yield
    self._window_began += time.monotonic() - began

  @contextlib.contextmanager
  def data_wait(self) -> Iterator[None]:
    """What happens inside is waiting for a batch."""
    began = time.monotonic()
    yield
    self._data_wait += time.monotonic() - began


class Throughput:
  """Speed of a compiled step on its devices."""

  def __init__(
    self,
    step: jax.stages.Compiled,
    image_flops: Callable[[], float],
    batch_size: int,
    devices: int,
    dtype: str,
  ) -> None:
    """Reads what the compiler says.

    Args:
      step: the training step.
      image_flops: floating-point operations that the network needs for an image; asked where the
        devices' peak is known.
      batch_size: images in a step, over all devices.
      devices: that share it.
      dtype: of activations.
    """
    self._batch_size = batch_size
    self._devices = devices
    chip = chips.find(jax.local_devices()[0].device_kind)
    self._peak = chip.peak_flops(dtype) if chip else None
    self._flops = 0.0  # of one device
    if chip:
      costs: Any = step.cost_analysis() or {}
      # A form for speed multiplies with zeros, too; a step with frozen layers needs fewer.
      self._flops = min(costs.get("flops", 0.0), image_flops() * batch_size / devices)

  def metrics(self, steps: int, seconds: float, data_wait_seconds: float) -> dict[str, float]:
    """Of a window of steps.

    Args:
      steps: in the window.
      seconds: it took.
      data_wait_seconds: of these, the loop waited for batches; while it does, devices may still be
        busy with the step before.

    Returns:
      `images_per_second` and `images_per_second_per_chip`; `step_seconds` and `data_wait_seconds`
      of a step; where the chip's peak is known, `mfu`, the fraction of it that the floating-point
      operations of the network make use of; where devices report it, `memory_bytes`, the most that
      one of them has had in use.
    """
    metrics = {
      "images_per_second": steps * self._batch_size / seconds,
      "images_per_second_per_chip": steps * self._batch_size / seconds / self._devices,
      "step_seconds": seconds / steps,
      "data_wait_seconds": data_wait_seconds / steps,
    }
    if self._peak and self._flops:
      metrics["mfu"] = self._flops * steps / seconds / self._peak
    if memory := _peak_memory():
      metrics["memory_bytes"] = memory
    return metrics


def _peak_memory() -> float:
  statistics = (device.memory_stats() or {} for device in jax.local_devices())
  return max(float(each.get("peak_bytes_in_use", 0)) for each in statistics)
