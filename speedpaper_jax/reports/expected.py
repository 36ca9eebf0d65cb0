"""The published accuracy beside a run's, at its steps."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from speedpaper_jax.papers import expected_accuracies
from speedpaper_jax.papers.expected_accuracies import Expectation
from speedpaper_jax.storage.sessions import Session

# How far the curve is drawn: beyond the run, or into the part where it begins.
_BEYOND = 1.3


@dataclasses.dataclass(frozen=True)
class ExpectedOfRun:
  """What is expected of a run, which counts in steps.

  Attributes:
    expectation: against epochs.
    sessions: of the run, those that count.
  """

  expectation: Expectation
  sessions: Sequence[Session]

  @classmethod
  def of(cls, name: str, sessions: Sequence[Session]) -> "ExpectedOfRun | None":
    """Of a run whose config names a curve.

    Args:
      name: of the curve; empty for none.
      sessions: that count.

    Returns:
      None where there is no curve, or its epochs are not known in steps.
    """
    return cls(expected_accuracies.find(name), sessions) if name and sessions else None

  def epoch(self, step: int) -> float:
    """Epochs of examples that had been seen after a step."""
    for session in self.sessions:
      if step <= session.last_step:
        break
    return session.epochs(step)

  def at(self, step: int) -> float | None:
    """Top-1 accuracy after a step, a fraction; None where none was published."""
    return self.expectation.curve.at(self.epoch(step))

  def line(self, last_step: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and accuracies of the curve, as far as a run of so many steps is concerned."""
    curve = self.expectation.curve
    until = _BEYOND * max(self.epoch(last_step), curve.positions[0])
    shown = curve.positions <= until
    return np.array([self._step(epoch) for epoch in curve.positions[shown]]), curve.values[shown]

  def _step(self, epoch: float) -> float:
    for session in self.sessions:
      if epoch <= session.epochs(session.last_step):
        break
    examples = epoch * session.epoch_size - session.first_examples
    return session.first_step + examples / session.batch_size
