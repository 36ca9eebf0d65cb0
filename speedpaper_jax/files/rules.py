"""What a value may be, and the sentence about one that is not.

A value is looked at in the same way whether it was given on the command line or read from a file.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from speedpaper_jax.errors import UserError, did_you_mean

_LARGEST, _SMALLEST = (float(getattr(np.finfo(np.float32), end)) for end in ("max", "tiny"))

_LARGEST_64 = float(np.finfo(np.float64).max)


@dataclasses.dataclass(frozen=True)
class Rule:
  """What a value may be.

  Attributes:
    words: follow "it must be".
    holds: whether a value is such.
    choices: all that a text may be; none where there are too many to name.
  """

  words: str
  holds: Callable[[Any], bool]
  choices: Collection[str] = ()

  def check(self, name: str, value: Any) -> None:
    """Raises a UserError, which calls the value `name`, if it is another."""
    if self.holds(value):
      return
    if self.choices and isinstance(value, str):
      raise UserError(f"{name}={value!r:.80} is unknown.{did_you_mean(value, self.choices)}")
    shown = "a section" if isinstance(value, Mapping | ConfigDict) else f"{value!r:.80}"
    raise UserError(f"{name} is {shown}; it must be {self.words}.")


@dataclasses.dataclass(frozen=True)
class IfPresent:
  """The rules of a value that may be missing."""

  rules: "Rules"


@dataclasses.dataclass(frozen=True)
class Each:
  """A section with any keys, whose values all have the same rules."""

  rules: "Rules"


@dataclasses.dataclass(frozen=True)
class ListOf:
  """A list whose values all have the same rules."""

  rules: "Rules"


# Of a value, or for each key of a section Rules or IfPresent.
Rules = Rule | Each | ListOf | Mapping[str, Any]


def check(content: Any, rules: Rules, name: str = "") -> None:
  """Raises a UserError if a value of nested sections breaks its rule, or is missing.

  Keys without a rule are left alone.

  Args:
    content: of mappings, such as a JSON object.
    rules: by the same keys.
    name: of the content, in the message; its keys follow after a dot.
  """
  if isinstance(rules, Rule):
    rules.check(name or "it", content)
    return
  if isinstance(rules, ListOf):
    if not isinstance(content, list | tuple):
      raise UserError(f"{name or 'it'} is {content!r:.80}; it must be a list.")
    for number, value in enumerate(content):
      check(value, rules.rules, f"{name}[{number}]")
    return
  if not isinstance(content, Mapping):
    raise UserError(f"{name or 'it'} is {content!r:.80}; it must be a section.")
  by_key = dict.fromkeys(content, rules.rules) if isinstance(rules, Each) else rules
  for key, of_key in by_key.items():
    full_name = f"{name}.{key}" if name else key
    if key in content:
      check(content[key], of_key.rules if isinstance(of_key, IfPresent) else of_key, full_name)
    elif not isinstance(of_key, IfPresent):
      raise UserError(f"{full_name} is missing.")


def is_whole(value: Any) -> bool:
  """Whether it is an integer; True and False are none."""
  return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
  """Whether it is an integer or a float that float32 can hold."""
  return (is_whole(value) or isinstance(value, float)) and -_LARGEST <= value <= _LARGEST


def is_result(value: Any) -> bool:
  """Whether it is such a number, or what a computation in float32 gives where it diverges."""
  return is_finite(value) or (isinstance(value, float) and not math.isfinite(value))


def _is_above_zero(value: Any) -> bool:
  return is_finite(value) and value >= _SMALLEST


def whole(least: int, most: int) -> Rule:
  """An integer between two, which it may be."""
  return Rule(
    f"a whole number from {least:,} to {most:,}",
    lambda value: is_whole(value) and least <= value <= most,
  )


def between(least: float, most: float) -> Rule:
  """A number between two, which it may be."""
  return Rule(
    f"a number from {least:g} to {most:g}",
    lambda value: is_finite(value) and least <= value <= most,
  )


def one_of(choices: Collection[str]) -> Rule:
  """A text out of some."""
  return Rule("a text", lambda value: isinstance(value, str) and value in choices, choices)


def several(rule: Rule, least: int = 0, most: int | None = None) -> Rule:
  """A list or tuple of values with one rule."""

  def holds(value: Any) -> bool:
    return (
      isinstance(value, list | tuple)
      and least <= len(value)
      and (most is None or len(value) <= most)
      and all(map(rule.holds, value))
    )

  length = f" of {least}" if least == most else " that is not empty" if least else ""
  return Rule(f"a list{length}, each {rule.words}", holds)


def or_nothing(rule: Rule) -> Rule:
  """A value with a rule, or None."""
  return Rule(f"{rule.words}, or none", lambda value: value is None or rule.holds(value))


SWITCH = Rule("True or False", lambda value: isinstance(value, bool))
TEXT = Rule("a text", lambda value: isinstance(value, str) and "\0" not in value)
NAME = Rule("a text that is not empty", lambda value: TEXT.holds(value) and value != "")
SEED = whole(0, 2**32 - 1)  # JAX takes the last 32 bits of one
STEP = whole(0, 2**31 - 1)
ROWS = whole(1, 2**20)  # of what costs memory or time in proportion
IMAGE_SIZE = whole(1, 4096)  # pixels, height and width
CLASSES = whole(0, 2**20)
COUNT = whole(0, 2**53)
RESULT = Rule("a number", is_result)
FINITE = Rule("a finite number in float32", is_finite)
ABOVE_ZERO = Rule("a finite number above 0 in float32", _is_above_zero)
AT_LEAST_ZERO = Rule(
  "a finite number of at least 0 in float32", lambda value: is_finite(value) and value >= 0
)
AT_LEAST_ZERO_64 = Rule(
  "a finite number of at least 0",
  lambda value: (is_whole(value) or isinstance(value, float)) and 0 <= value <= _LARGEST_64,
)
FRACTION = between(0, 1)
# 1 - 1e-12, which is one in float32, keeps moving averages as they are.
FRACTION_BELOW_ONE = Rule(
  "a number at least 0 and below 1", lambda value: is_finite(value) and 0 <= value < 1
)


def range_of_fractions() -> Rule:
  """Two, both above 0."""

  def holds(value: Any) -> bool:
    return (
      isinstance(value, Sequence)
      and len(value) == 2
      and all(map(_is_above_zero, value))
      and value[0] <= value[1] <= 1
    )

  return Rule("two fractions, the smaller first", holds)
