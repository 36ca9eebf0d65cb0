"""Whether an evaluation gives a published number again, within the tolerance of its row."""

import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from speedpaper_jax.published_weights.reproductions import NOT_PRINTED, Allowance, Reproduction

PASS, FAIL, NOT_JUDGED, CANNOT_BE_RUN = "pass", "fail", "not judged", "cannot be run"

_PERCENT = "Accuracies in percent, differences in percentage points."


@dataclasses.dataclass(frozen=True)
class Found:
  """What an evaluation has found.

  Attributes:
    count: images.
    top1: how many of them are right by the most probable class.
    top5: by one of the five most probable.
  """

  count: int
  top1: int
  top5: int


@dataclasses.dataclass(frozen=True)
class Beside:
  """An accuracy beside the published one, in percent and percentage points.

  Attributes:
    printed: as it is published; `NOT_PRINTED` where it is not.
    here: what was found, exactly; None where the evaluation cannot be run.
    tolerance: how far it may be from what is printed; None where that is not judged.
  """

  printed: str
  here: Fraction | None
  tolerance: Decimal | None

  @property
  def difference(self) -> Fraction | None:
    """What was found less what is printed; None where one of them is not there."""
    if self.here is None or self.printed == NOT_PRINTED:
      return None
    return self.here - Fraction(self.printed)

  @property
  def is_within(self) -> bool:
    """Whether it is no farther than the tolerance, or not judged."""
    if self.difference is None or self.tolerance is None:
      return True
    return abs(self.difference) <= Fraction(self.tolerance)

  def cells(self) -> tuple[str, ...]:
    """What is printed, what was found, the difference and the tolerance, as a table has them."""
    here, difference = (
      NOT_PRINTED if value is None else f"{float(value):{sign}.3f}"
      for value, sign in ((self.here, ""), (self.difference, "+"))
    )
    tolerance = NOT_PRINTED if self.tolerance is None else str(self.tolerance)
    return self.printed, here, difference, tolerance

  def to_json(self) -> dict[str, Any]:
    """All of it; None for what there is not."""
    numbers = {"here": self.here, "difference": self.difference, "tolerance": self.tolerance}
    return {
      "published": None if self.printed == NOT_PRINTED else self.printed,
      **{name: None if value is None else float(value) for name, value in numbers.items()},
    }


@dataclasses.dataclass(frozen=True)
class Judged:
  """A row with what was found.

  Attributes:
    row: of the table.
    found: None where the evaluation cannot be run.
    verdict: `PASS`, `FAIL`, `NOT_JUDGED` or `CANNOT_BE_RUN`.
    reason: of the latter two, in words; else "".
  """

  row: Reproduction
  found: Found | None
  verdict: str
  reason: str = ""

  @property
  def top1(self) -> Beside:
    """What is printed and what was found."""
    return _beside(self.row, self.row.top1, self.found, self.found.top1 if self.found else 0)

  @property
  def top5(self) -> Beside:
    """The same."""
    return _beside(self.row, self.row.top5, self.found, self.found.top5 if self.found else 0)

  @property
  def verdict_in_words(self) -> str:
    """With the reason."""
    return f"{self.verdict}: {self.reason}" if self.reason else self.verdict

  def in_words(self) -> str:
    """A line."""
    numbers = [f"top-1 {_in_words(self.top1)}", f"top-5 {_in_words(self.top5)}"]
    return "  ".join([f"{self.row.name}:", *(numbers if self.found else ()), self.verdict_in_words])

  def to_json(self) -> dict[str, Any]:
    """All of it."""
    allowance = self.row.allowance
    return {
      "name": self.row.name,
      **self.row.evaluation._asdict(),
      "source": self.row.source,
      "top1": self.top1.to_json(),
      "top5": self.top5.to_json(),
      "images": None if self.found is None else self.found.count,
      "images_published": self.row.images,
      "allowance": allowance and {"points": float(allowance.points), "reason": allowance.reason},
      "verdict": self.verdict,
      "reason": self.reason or None,
    }


def judge(row: Reproduction, found: Found) -> Judged:
  """Compares what was found with each number that is printed."""
  if found.count != row.images:
    reason = f"{found.count:,} of {row.images:,} images"
    return Judged(row, found, NOT_JUDGED, reason)
  if row.allowance is None:
    return Judged(row, found, NOT_JUDGED, row.why_not_judged)
  passed = Judged(row, found, PASS)
  is_within = passed.top1.is_within and passed.top5.is_within
  return passed if is_within else Judged(row, found, FAIL)


def cannot_be_run(row: Reproduction, reason: str) -> Judged:
  """A row without a result."""
  return Judged(row, None, CANNOT_BE_RUN, reason)


def tolerance(printed: str, allowance: Allowance) -> Decimal:
  """How far a number may be from a printed one, in percentage points.

  Half of the last digit that is printed, and the allowance.
  """
  exponent = Decimal(printed).as_tuple().exponent
  assert isinstance(exponent, int)  # else it is no number
  return Decimal((0, (5,), exponent - 1)) + allowance.points


def lines_of(judged: Sequence[Judged]) -> list[str]:
  """A table of all rows, and below it why they have their tolerances."""
  numbers = ("published", "here", "difference", "tolerance")
  cells: list[tuple[str, ...]] = [
    ("", "top-1", "", "", "", "top-5", "", "", "", ""),
    ("row", *numbers, *numbers, "verdict"),
  ]
  for each in judged:
    # Why a row cannot be run is a sentence, in the row's line above.
    verdict = each.verdict if each.found is None else each.verdict_in_words
    cells.append((each.row.name, *each.top1.cells(), *each.top5.cells(), verdict))
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  last = len(widths) - 1
  lines = [
    "  ".join(
      cell.ljust(width) if number in (0, last) else cell.rjust(width)
      for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in cells
  ]
  allowances = dict.fromkeys(each.row.allowance for each in judged if each.row.allowance)
  reasons = [f"{each.points}: {each.reason}." for each in allowances]
  if reasons:
    return [*lines, "", f"{_PERCENT} Tolerances: half of the last printed digit, and", *reasons]
  return [*lines, "", _PERCENT]


def _beside(row: Reproduction, printed: str, found: Found | None, right: int) -> Beside:
  allowed = None
  if row.allowance is not None and printed != NOT_PRINTED:
    allowed = tolerance(printed, row.allowance)
  here = None if found is None else Fraction(100 * right, found.count)
  return Beside(printed, here, allowed)


def _in_words(beside: Beside) -> str:
  printed, here, difference, allowed = beside.cells()
  if printed == NOT_PRINTED:
    return here
  within = "" if allowed == NOT_PRINTED else f" of ±{allowed}"
  return f"{here} ({printed} published, {difference}{within})"
