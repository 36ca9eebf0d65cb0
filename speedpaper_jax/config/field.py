"""What is known of one field of a config."""

import dataclasses
from typing import Any, Literal

from speedpaper_jax.files.rules import Rule


@dataclasses.dataclass(frozen=True)
class Change:
  """What another value does to a run that goes on.

  Attributes:
    answer: whether it goes on, with a warning or without, or is refused.
    consequence: what follows from it, or why it is refused.
  """

  answer: Literal["goes on", "goes on, with a warning", "refused"]
  consequence: str


@dataclasses.dataclass(frozen=True)
class Field:
  """One field.

  Attributes:
    default: its value, unless a config says otherwise.
    rule: what it may be.
    change: what another value does to a run that goes on.
  """

  default: Any
  rule: Rule
  change: Change
