"""Lengths of training, written as steps, epochs or examples."""

import dataclasses
import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from speedpaper_jax.errors import UserError

LONGEST = 2**31 - 1  # steps, which are counted in int32
_DURATION = re.compile(
  r"\s*(?P<amount>([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)\s*(?P<unit>step|epoch|example)s?\s*"
)


def is_valid(text: Any) -> bool:
  """Whether it is a non-negative number and a unit."""
  match = _DURATION.fullmatch(text) if isinstance(text, str) else None
  return match is not None and math.isfinite(float(match["amount"]))


@dataclasses.dataclass(frozen=True)
class Durations:
  """Reads lengths such as "15 epochs", "0.5 epochs", "200 steps" and "1e6 examples", exactly.

  Attributes:
    batch_size: examples in a step, over all devices.
    epoch_size: examples in an epoch.
    first_step: steps that the run has taken before, some of them maybe with other batches.
    first_examples: examples that it has seen in them.
  """

  batch_size: int
  epoch_size: int
  first_step: int = 0
  first_examples: int = 0

  @property
  def offset(self) -> Fraction:
    """What is added to a step's number to have its position in examples, in batches of this size.

    Zero unless the run has had batches of another size before.
    """
    return Fraction(self.first_examples, self.batch_size) - self.first_step

  def offset_of(self, text: str, field: str) -> Fraction:
    """The offset for what is counted as `text` is: steps are steps, whatever their batches."""
    return Fraction(0) if self._parse(text, field)[1] == "step" else self.offset

  def epoch(self, step: int) -> float:
    """Epochs of examples that have been seen after a step."""
    return float((step + self.offset) * self.batch_size / self.epoch_size)

  def steps(self, text: str, field: str) -> float:
    """The length in steps, not rounded.

    Args:
      text: a number and a unit.
      field: the config field that holds `text`, for the error message.

    Raises:
      UserError: `text` is not a non-negative number and a unit, or too long.
    """
    return float(self._steps(text, field))

  def whole_steps(self, text: str, field: str) -> int:
    """The length in whole steps, rounded down; a length that is not zero is at least one."""
    return _whole(self._steps(text, field))

  def last_step(self, text: str, field: str) -> int:
    """The last step of a run of this length; 0 for none."""
    return _whole(self._steps(text, field) - self.offset_of(text, field))

  def _steps(self, text: str, field: str) -> Fraction:
    amount, unit = self._parse(text, field)
    steps = amount
    if unit != "step":
      steps = amount * (self.epoch_size if unit == "epoch" else 1) / self.batch_size
    if steps > LONGEST:
      many = f"{Decimal(steps.numerator) / steps.denominator:.3g}"
      raise UserError(f"{field}='{text}' is {many} steps; at most {LONGEST:,} are counted.")
    return steps

  def _parse(self, text: str, field: str) -> tuple[Fraction, str]:
    match = _DURATION.fullmatch(text)
    if match is None or not is_valid(text):
      raise UserError(
        f"{field}='{text}' is no duration. Write a number and a unit, as in '15 epochs', "
        f"'200 steps' or '1e6 examples'."
      )
    # As a fraction, the decimal number that was written; below the smallest float it is zero.
    amount = match["amount"] if float(match["amount"]) else 0
    return Fraction(Decimal(amount)), match["unit"]


def _whole(steps: Fraction) -> int:
  return max(1, math.floor(steps)) if steps > 0 else 0
