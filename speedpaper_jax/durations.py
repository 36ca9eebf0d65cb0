"""Lengths of training, written as steps, epochs or examples."""

import dataclasses
import math
import re
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
  """Reads lengths such as "15 epochs", "0.5 epochs", "200 steps" and "1e6 examples".

  Attributes:
    batch_size: examples in a step, over all devices.
    epoch_size: examples in an epoch.
  """

  batch_size: int
  epoch_size: int

  def steps(self, text: str, field: str) -> float:
    """The length in steps, not rounded.

    Args:
      text: a number and a unit.
      field: the config field that holds `text`, for the error message.

    Raises:
      UserError: `text` is not a non-negative number and a unit, or too long.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not is_valid(text):
      raise UserError(
        f"{field}='{text}' is no duration. Write a number and a unit, as in '15 epochs', "
        f"'200 steps' or '1e6 examples'."
      )
    steps = float(match["amount"])
    if match["unit"] != "step":
      steps = steps * (self.epoch_size if match["unit"] == "epoch" else 1) / self.batch_size
    if steps > LONGEST:
      raise UserError(f"{field}='{text}' is {steps:.3g} steps; at most {LONGEST:,} are counted.")
    return steps

  def whole_steps(self, text: str, field: str) -> int:
    """The length in whole steps, rounded down; a length that is not zero is at least one."""
    steps = self.steps(text, field)
    return max(1, math.floor(steps)) if steps else 0
