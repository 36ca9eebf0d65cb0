"""Which steps of training are traced, as a flag names them."""

import dataclasses
import re

from speedpaper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Steps:
  """Which steps to trace.

  Attributes:
    first: number of the first.
    last: number of the last.
  """

  first: int
  last: int

  @classmethod
  def parse(cls, text: str) -> "Steps":
    """Reads "FROM,TO".

    Raises:
      UserError: the text is not of that form.
    """
    match = re.fullmatch(r"(\d+),(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
      raise UserError(
        f"--profile={text} does not name steps; give the first and the last, as in --profile=10,12."
      )
    return cls(int(match[1]), int(match[2]))
