"""Lengths of training, written as text."""

import pytest

from speedpaper_jax.config.durations import Durations
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
    ("3. epochs", 135),
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


class TestExactness:
  """0.29 · 100 is 28.999999999999996 in floating point."""

  @pytest.mark.parametrize("hundredths", range(1, 301))
  def test_hundredths_of_an_epoch_of_a_hundred(self, hundredths):
    durations = Durations(batch_size=1, epoch_size=100)
    for text in (f"{hundredths // 100}.{hundredths % 100:02d} epochs", f"{hundredths}e-2 epochs"):
      assert durations.whole_steps(text, "") == hundredths
      assert durations.steps(text, "") == hundredths

  @pytest.mark.parametrize("batch_size", [1, 3, 7, 32, 100, 1000])
  @pytest.mark.parametrize("epoch_size", [10, 70, 1437, 50_000, 1_281_167])
  def test_every_length_is_that_of_whole_numbers(self, batch_size, epoch_size):
    durations = Durations(batch_size, epoch_size)
    for thousandths in range(1, 1000, 37):
      expected = max(1, thousandths * epoch_size // (1000 * batch_size))
      assert durations.whole_steps(f"0.{thousandths:03d} epochs", "") == expected

  def test_a_long_number(self):
    durations = Durations(batch_size=1, epoch_size=9)
    assert durations.whole_steps(f"0.{'3' * 5000} epochs", "") == 2
    assert durations.whole_steps(f"0.{'0' * 5000}1 epochs", "") == 0

  @pytest.mark.parametrize("text", ["1e308 epochs", "2147483648 steps", "1e9 epochs"])
  def test_more_steps_than_can_be_counted(self, text):
    with pytest.raises(UserError, match=rf"x='{text}' is .* steps; at most 2,147,483,647 are"):
      DURATIONS.whole_steps(text, "x")

  @pytest.mark.parametrize("text", ["1e-400 epochs", "1e-999999999 epochs"])
  def test_less_than_the_smallest_number_is_nothing(self, text):
    assert DURATIONS.whole_steps(text, "") == 0


class TestAfterOtherBatches:
  """90 steps of 32 examples are two epochs; then batches are twice as large."""

  AFTER = Durations(batch_size=64, epoch_size=1440, first_step=90, first_examples=2880)

  @pytest.mark.parametrize(
    ("text", "step"),
    [
      ("4 epochs", 135),
      ("2 epochs", 90),
      ("3 epochs", 112),
      ("5760 examples", 135),
      ("200 steps", 200),
      ("1 epochs", 67),
      ("1 examples", 45),
      ("0 epochs", 45),
    ],
  )
  def test_epochs_and_examples_end_where_they_are_and_steps_are_steps(self, text, step):
    assert self.AFTER.last_step(text, "") == step

  def test_lengths_are_those_of_the_batches(self):
    assert self.AFTER.steps("1 epochs", "") == 22.5
    assert self.AFTER.offset_of("1 epochs", "") == -45
    assert self.AFTER.offset_of("1 steps", "") == 0

  def test_the_epoch_is_that_of_the_examples(self):
    assert [self.AFTER.epoch(step) for step in (90, 135)] == [2, 4]

  def test_smaller_batches(self):
    after = Durations(batch_size=16, epoch_size=1440, first_step=45, first_examples=1440)
    assert after.last_step("2 epochs", "") == 45 + 90
    assert after.epoch(90) == 1.5

  @pytest.mark.parametrize("text", ["15 epochs", "0.29 epochs", "77 steps", "1000 examples"])
  def test_the_same_batches_make_no_difference(self, text):
    after = Durations(batch_size=32, epoch_size=1440, first_step=77, first_examples=77 * 32)
    assert after.offset == 0
    assert after.last_step(text, "") == DURATIONS.whole_steps(text, "")

  def test_a_length_that_is_over(self):
    after = Durations(batch_size=320, epoch_size=1440, first_step=1000, first_examples=32_000)
    assert after.last_step("1 epochs", "") == 904
    longer = Durations(batch_size=1, epoch_size=1440, first_step=10, first_examples=32_000)
    assert longer.last_step("1 epochs", "") == 0


@pytest.mark.parametrize("text", ["1e300 epochs", "2147483648 steps", "1e12 examples"])
def test_more_steps_than_are_counted(text):
  with pytest.raises(UserError, match=r"^config\.duration='.*' is .* steps; at most 2,147,483,647"):
    DURATIONS.steps(text, "config.duration")
  assert DURATIONS.steps("2147483647 steps", "config.duration") == 2**31 - 1


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
