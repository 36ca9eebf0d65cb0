"""Lengths of training, written as text."""

import pytest

from speedpaper_jax.durations import Durations
from speedpaper_jax.errors import UserError

DURATIONS = Durations(batch_size=32, epoch_size=1440)


@pytest.mark.parametrize(
  ("text", "steps"),
  [
    ("200 steps", 200),
    ("1 step", 1),
    ("1 epoch", 45),
    ("15 epochs", 675),
    ("0.5 epochs", 22.5),
    ("1440 examples", 45),
    ("1e6 examples", 31250),
    ("2.5E+2 steps", 250),
    (".5 steps", 0.5),
    ("  3epochs ", 135),
    ("0 steps", 0),
  ],
)
def test_a_duration_is_a_number_and_a_unit(text, steps):
  assert DURATIONS.steps(text, "config.duration") == steps


@pytest.mark.parametrize(
  ("text", "steps"),
  [("0.5 epochs", 22), ("46 examples", 1), ("63 examples", 1), ("1 examples", 1), ("0 epochs", 0)],
)
def test_whole_steps_are_rounded_down_and_only_zero_is_none(text, steps):
  assert DURATIONS.whole_steps(text, "config.duration") == steps


@pytest.mark.parametrize(
  "text",
  [
    "",
    "15",
    "epochs",
    "-1 epochs",
    "1.2.3 epochs",
    "e steps",
    "1e999 steps",
    "2 hours",
    "3 stepss",
  ],
)
def test_anything_else_is_refused_by_field_and_with_examples(text):
  with pytest.raises(UserError) as refusal:
    DURATIONS.whole_steps(text, "config.eval_every")
  assert str(refusal.value) == (
    f"config.eval_every='{text}' is no duration. Write a number and a unit, as in '15 epochs', "
    "'200 steps' or '1e6 examples'."
  )
