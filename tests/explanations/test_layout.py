"""How formulas, numbers and checks are printed."""

import numpy as np
import pytest

from speedpaper_jax.explanations.layout import (
  Check,
  Part,
  Step,
  by_feature,
  counted,
  display_width,
  equal,
  render,
)


def lines(*steps):
  return render(Part("title", [steps])).splitlines()[2:]


def test_formulas_stand_at_the_left_and_numbers_at_the_right():
  printed = render(
    Part(
      "x̂ and y",
      [
        [counted("example", 2), Step("x̂_i = x_i", by_feature(np.array([[1.5, -2], [3, 4]])))],
        [Step("y_i", by_feature(np.array([7.0, 8])), [equal("= z_i", np.ones(2), np.ones(2))])],
      ],
    )
  )
  assert printed.splitlines() == [
    "x̂ and y",
    "───────",
    "                                                example           1       2",
    "  x̂_i = x_i                                     feature 1    1.5000  3.0000",
    "                                                feature 2   -2.0000  4.0000",
    "",
    "  y_i                                           feature 1    7.0000",
    "                                                feature 2    8.0000",
    "    = z_i                                       difference  0.0e+00  ok",
  ]


def test_a_formula_of_two_lines_stands_beside_one_row():
  assert lines(Step("a\n+ b", {"": np.array([1.0])})) == [f"  a{' ' * 58}1.0000", "  + b"]


def test_many_numbers_take_several_lines_within_the_width():
  printed = lines(counted("example", 20), Step("x", {"": np.full(20, -1234.5678)}))
  assert sum(line.count("-1234.5678") for line in printed) == 20
  assert max(map(len, printed)) <= 100


def test_rounding_below_zero_has_no_sign():
  (line,) = lines(Step("", {"": np.array([-1e-17, -0.5])}))
  assert line.split() == ["0.0000", "-0.5000"]


def test_the_circumflex_takes_no_column():
  assert display_width("x̂_i") == 3


@pytest.mark.parametrize(
  ("check", "passed", "ending"),
  [
    (Check("a", 1e-13), True, "difference  1.0e-13  ok"),
    (Check("a", 1e-11), False, "difference  1.0e-11  BEYOND 1e-12"),
    (Check("a", float("nan")), False, "difference  nan  BEYOND 1e-12"),
    (Check("a", 0.5, 1e-6, is_change=True), True, "change      5.0e-01  ok"),
    (Check("a", 0.0, 1e-6, is_change=True), False, "change      0.0e+00  BELOW 1e-06"),
    (Check("a", float("nan"), 1e-6, is_change=True), False, "change      nan  BELOW 1e-06"),
  ],
)
def test_a_check_beyond_its_limit_is_marked(check, passed, ending):
  assert check.passed == passed
  *_, line = lines(Step("x", {}, [check]))
  assert line.endswith(ending)


def test_differences_are_relative_to_large_values_alone():
  assert equal("", np.array([0.5, 0.25]), np.array([0.0, 0.25])).value == 0.5
  assert equal("", np.array([1000.0, 2.0]), np.array([1000.0, 1.0])).value == 1e-3
  assert not equal("", np.array([np.nan]), 0.0).passed
