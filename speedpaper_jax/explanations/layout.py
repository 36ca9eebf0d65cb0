"""Formulas at the left, their numbers at the right, and what was checked beneath."""

import dataclasses
import itertools
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

WIDTH = 100

LIMIT = 1e-12

_FORMULA = 46
_LABEL = 11
_NUMBER = 8


@dataclasses.dataclass(frozen=True)
class Check:
  """One number that decides whether the explanation holds.

  Attributes:
    name: what is checked, at most 40 characters.
    value: the number.
    limit: the largest that passes; the smallest where the check is for a change.
    is_change: whether the values must differ.
  """

  name: str
  value: float
  limit: float = LIMIT
  is_change: bool = False

  @property
  def passed(self) -> bool:
    """False for a value that is not a number, too."""
    return bool(self.value >= self.limit if self.is_change else self.value <= self.limit)


def equal(name: str, actual: np.ndarray, expected: np.ndarray | float) -> Check:
  """Checks the largest difference, relative to the largest expected value if that exceeds 1."""
  largest = max(1.0, float(np.max(np.abs(expected))))
  return Check(name, float(np.max(np.abs(actual - expected))) / largest)


@dataclasses.dataclass(frozen=True)
class Step:
  """One formula with its numbers.

  Attributes:
    formula: a line or several.
    rows: numbers by the label that stands before them; integers and text are printed as they are.
    checks: printed beneath.
    decimals: of the numbers.
  """

  formula: str
  rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  checks: Sequence[Check] = ()
  decimals: int = 4


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of an explanation: a title, then paragraphs of steps, a blank line between them."""

  title: str
  paragraphs: Sequence[Sequence[Step]]

  @property
  def checks(self) -> list[Check]:
    """Those of all steps."""
    return [check for steps in self.paragraphs for step in steps for check in step.checks]


def by_feature(values: np.ndarray) -> dict[str, np.ndarray]:
  """Rows of [n, C] or [C] values, one a feature."""
  return {
    f"feature {feature}": column for feature, column in enumerate(np.atleast_2d(values).T, start=1)
  }


def counted(name: str, count: int) -> Step:
  """A row of the numbers 1 to `count`, to stand above columns."""
  return Step("", {name: np.arange(1, count + 1)})


def render(part: Part) -> str:
  """The part as lines of at most `WIDTH` columns."""
  lines = [part.title, "─" * display_width(part.title)]
  for number, steps in enumerate(part.paragraphs):
    lines += [""] * (number > 0)
    lines += [line for step in steps for line in _render_step(step)]
  return "\n".join(line.rstrip() for line in lines)


def display_width(text: str) -> int:
  """Columns that `text` takes; the circumflex of x̂ takes none."""
  return sum(not unicodedata.combining(character) for character in text)


def _render_step(step: Step) -> list[str]:
  numbers = [line for label, values in step.rows.items() for line in _row(label, values, step)]
  lines = [
    f"  {_pad(formula, _FORMULA)}{row}"
    for formula, row in itertools.zip_longest(step.formula.split("\n"), numbers, fillvalue="")
  ]
  return lines + [_render_check(check) for check in step.checks]


def _row(label: str, values: np.ndarray, step: Step) -> list[str]:
  """One line, or several where the values do not fit into one."""
  texts = [_format(value, step.decimals) for value in np.atleast_1d(values)]
  width = max(_NUMBER, *(len(text) + 1 for text in texts))
  per_line = (WIDTH - 2 - _FORMULA - _LABEL) // width
  return [
    _pad(label if start == 0 else "", _LABEL)
    + "".join(text.rjust(width) for text in texts[start : start + per_line])
    for start in range(0, len(texts), per_line)
  ]


def _format(value: np.number | np.str_, decimals: int) -> str:
  if isinstance(value, np.integer | np.str_):
    return str(value)
  text = f"{value:.{decimals}f}"
  # What is zero but for rounding has no sign worth printing.
  return text.removeprefix("-") if not text.strip("-0.") else text


def _render_check(check: Check) -> str:
  word = "change" if check.is_change else "difference"
  verdict = "ok"
  if not check.passed:
    verdict = f"{'BELOW' if check.is_change else 'BEYOND'} {check.limit:g}"
  return f"    {_pad(check.name, _FORMULA - 2)}{_pad(word, _LABEL)} {check.value:.1e}  {verdict}"


def _pad(text: str, width: int) -> str:
  return text + " " * (width - display_width(text))
