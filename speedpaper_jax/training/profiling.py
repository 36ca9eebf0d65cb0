"""A trace of some steps of training, for XProf, TensorBoard and Perfetto."""

import pathlib

import jax

from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import warn
from speedpaper_jax.training.traced_steps import Steps


class Profiler:
  """Traces the main process while the loop takes the chosen steps."""

  def __init__(self, steps: Steps | None, directory: pathlib.Path) -> None:
    """Nothing is traced yet.

    Args:
      steps: None for none.
      directory: in which the trace goes.
    """
    self._steps = steps if hosts.is_main() else None
    self._directory = directory
    self._running = False
    self._has_begun = False

  def before(self, step: int) -> None:
    """A step is about to be started."""
    steps = self._steps
    if steps is not None and not self._has_begun and steps.first <= step <= steps.last:
      jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
      self._running = self._has_begun = True

  def ends_with(self, step: int) -> bool:
    """Whether the step is the last one to trace, and has to be waited for."""
    return self._running and self._steps is not None and step >= self._steps.last

  def stop(self) -> str:
    """Writes the trace; returns what to say about it."""
    jax.profiler.stop_trace()
    self._running = False
    return f"trace of the steps in {self._directory}: tensorboard --logdir={self._directory}"

  def close(self) -> None:
    """Writes a trace that was begun, and warns if there was nothing to trace."""
    if self._running:
      self.stop()
    elif self._steps is not None and not self._has_begun:
      warn(
        f"nothing is traced: --profile names the steps {self._steps.first} to {self._steps.last}, "
        f"of which none was taken."
      )
