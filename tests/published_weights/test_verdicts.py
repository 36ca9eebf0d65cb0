"""Pass, fail, or neither."""

import dataclasses
from decimal import Decimal

import pytest

from speedpaper_jax.published_weights import verdicts
from speedpaper_jax.published_weights.reproductions import Allowance, Evaluation, Reproduction
from speedpaper_jax.published_weights.verdicts import Found, cannot_be_run, judge, tolerance

ROW = Reproduction(
  name="a/b",
  evaluation=Evaluation("a/b"),
  images=1000,
  top1="78.1",
  top5="94.20",
  source="a table",
  allowance=Allowance(Decimal("0.1"), "for rounding"),
)


@pytest.mark.parametrize(
  ("printed", "points", "expected"),
  [("78.1", "0.1", "0.15"), ("94.20", "0.1", "0.105"), ("80.144", "0.05", "0.0505")],
)
def test_tolerance_is_half_of_the_last_printed_digit_and_the_allowance(printed, points, expected):
  assert tolerance(printed, Allowance(Decimal(points), "")) == Decimal(expected)


@pytest.mark.parametrize(
  ("top1", "top5", "verdict"),
  [
    (781, 942, "pass"),
    (782, 943, "pass"),  # 0.10 of 0.15, and of 0.105
    (780, 941, "pass"),
    (783, 942, "fail"),
    (781, 944, "fail"),
    (779, 942, "fail"),
  ],
)
def test_both_numbers_are_judged(top1, top5, verdict):
  assert judge(ROW, Found(1000, top1, top5)).verdict == verdict


def test_a_difference_of_exactly_the_tolerance_passes():
  row = dataclasses.replace(ROW, images=2000, top5="–")
  assert judge(row, Found(2000, 1565, 0)).verdict == "pass"  # 78.25 − 78.1 = 0.15
  assert judge(row, Found(2000, 1566, 0)).verdict == "fail"


def test_what_is_not_printed_is_not_judged():
  row = dataclasses.replace(ROW, top5="–")
  judged = judge(row, Found(1000, 781, 0))
  assert judged.verdict == "pass"
  assert judged.to_json()["top5"] == {
    "published": None,
    "here": 0.0,
    "difference": None,
    "tolerance": None,
  }


def test_of_other_images_nothing_is_judged():
  judged = judge(ROW, Found(32, 0, 0))
  assert judged.verdict_in_words == "not judged: 32 of 1,000 images"


def test_a_row_without_a_tolerance():
  row = dataclasses.replace(ROW, allowance=None, why_not_judged="other weights")
  judged = judge(row, Found(1000, 1, 1))
  assert judged.verdict_in_words == "not judged: other weights"
  assert judged.in_words() == (
    "a/b:  top-1 0.100 (78.1 published, -78.000)  top-5 0.100 (94.20 published, -94.100)  "
    "not judged: other weights"
  )


def test_a_row_without_a_result():
  judged = cannot_be_run(ROW, "No network.")
  assert judged.in_words() == "a/b:  cannot be run: No network."
  assert judged.to_json()["top1"] == {
    "published": "78.1",
    "here": None,
    "difference": None,
    "tolerance": 0.15,
  }


def test_the_table_has_all_rows_and_the_reasons_of_the_tolerances_once():
  rows = [judge(ROW, Found(1000, 781, 942)), judge(ROW, Found(1000, 700, 942))]
  lines = verdicts.lines_of([*rows, cannot_be_run(ROW, "No network.")])
  numbers = ("published", "here", "difference", "tolerance")
  assert lines[1].split() == ["row", *numbers, *numbers, "verdict"]
  top1, top5 = ("78.1", "78.100", "+0.000", "0.15"), ("94.20", "94.200", "+0.000", "0.105")
  assert lines[2].split() == ["a/b", *top1, *top5, "pass"]
  assert lines[3].split()[-1] == "fail"
  assert lines[4].endswith("cannot be run")
  assert lines[-1] == "0.1: for rounding."
  assert sum("for rounding" in line for line in lines) == 1
