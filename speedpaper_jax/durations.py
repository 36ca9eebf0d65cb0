"""Lengths of training, written as steps, epochs or examples."""

import dataclasses
import math
import re

from speedpaper_jax.errors import UserError

_DURATION = re.compile(
  r"\s*(?P<amount>([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)\s*(?P<unit>step|epoch|example)s?\s*"
)


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
      UserError: `text` is not a non-negative number and a unit.
    """
    match = _DURATION.fullmatch(text)
    if match is None or math.isinf(amount := float(match["amount"])):
      raise UserError(
        f"{field}='{text}' is no duration. Write a number and a unit, as in '15 epochs', "
        f"'200 steps' or '1e6 examples'."
      )
    if match["unit"] == "step":
      return amount
    return amount * (self.epoch_size if match["unit"] == "epoch" else 1) / self.batch_size

  def whole_steps(self, text: str, field: str) -> int:
    """The length in whole steps, rounded down; a length that is not zero is at least one."""
    steps = self.steps(text, field)
    return max(1, math.floor(steps)) if steps else 0
