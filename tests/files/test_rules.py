"""What values may be, and the sentences about those that are not."""

import math

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import rules

NO_NUMBERS = ["1", "", None, True, False, [], [1], {}, 1j, object()]
NOT_FINITE = [math.inf, -math.inf, math.nan, 1e39, -1e39, 10**400]


def refused(rule, value):
  with pytest.raises(UserError, match=r"^x(=| is )"):
    rule.check("x", value)


class TestNumbers:
  @pytest.mark.parametrize("value", [1, 7, 10])
  def test_whole(self, value):
    rules.whole(1, 10).check("x", value)

  @pytest.mark.parametrize("value", [0, 11, -1, 1.0, 2.5, *NO_NUMBERS, *NOT_FINITE])
  def test_nothing_else_is_whole(self, value):
    refused(rules.whole(1, 10), value)

  @pytest.mark.parametrize(
    ("rule", "value"),
    [
      (rules.ABOVE_ZERO, 1),
      (rules.ABOVE_ZERO, 1e-30),
      (rules.ABOVE_ZERO, 3e38),
      (rules.AT_LEAST_ZERO, 0),
      (rules.AT_LEAST_ZERO, -0.0),
      (rules.FRACTION_BELOW_ONE, 0.9999),
      (rules.FRACTION_BELOW_ONE, 1 - 1e-12),
      (rules.FRACTION, 1),
      (rules.FINITE, -3.5),
      (rules.RESULT, math.nan),
      (rules.RESULT, -math.inf),
    ],
  )
  def test_numbers(self, rule, value):
    rule.check("x", value)

  @pytest.mark.parametrize(
    ("rule", "value"),
    [
      (rules.ABOVE_ZERO, 0),
      (rules.ABOVE_ZERO, -0.0),
      (rules.ABOVE_ZERO, 1e-50),  # zero in float32
      (rules.AT_LEAST_ZERO, -1e-9),
      (rules.FRACTION_BELOW_ONE, 1),
      (rules.FRACTION, 1.001),
      (rules.FRACTION, -0.001),
    ],
  )
  def test_numbers_out_of_range(self, rule, value):
    refused(rule, value)

  @pytest.mark.parametrize(
    "rule",
    [
      rules.ABOVE_ZERO,
      rules.AT_LEAST_ZERO,
      rules.FRACTION,
      rules.FRACTION_BELOW_ONE,
      rules.FINITE,
      rules.between(-2, 2),
    ],
  )
  @pytest.mark.parametrize("value", [*NO_NUMBERS, *NOT_FINITE])
  def test_what_is_no_finite_number(self, rule, value):
    refused(rule, value)

  @pytest.mark.parametrize("value", [*NO_NUMBERS, 10**400])
  def test_what_is_no_result(self, value):
    refused(rules.RESULT, value)


class TestOthers:
  @pytest.mark.parametrize("value", [0, 1, "True", None, [], 0.0])
  def test_no_switch(self, value):
    refused(rules.SWITCH, value)

  @pytest.mark.parametrize("value", [0, None, [], b"a", "a\0b"])
  def test_no_text(self, value):
    refused(rules.TEXT, value)

  def test_an_unknown_choice(self):
    with pytest.raises(UserError) as error:
      rules.one_of(("relu", "tanh")).check("activation", "rleu")
    assert str(error.value) == (
      "activation='rleu' is unknown. Did you mean 'relu'? Valid: 'relu', 'tanh'."
    )

  @pytest.mark.parametrize("value", [0, None, [], ["relu"], {}])
  def test_what_is_no_choice(self, value):
    refused(rules.one_of({"relu": 1}), value)

  @pytest.mark.parametrize(
    "value", [(), [], (1,), (1, 2, 3), "12", (1, "2"), None, 12, {1: 2, 2: 1}]
  )
  def test_a_list_of_another_length_or_kind(self, value):
    refused(rules.several(rules.FINITE, 2, 2), value)

  def test_a_list(self):
    rules.several(rules.FINITE, 2, 2).check("x", [1, 2])
    rules.several(rules.FINITE).check("x", ())

  def test_a_long_value_is_cut_off(self):
    with pytest.raises(UserError) as error:
      rules.FINITE.check("x", "a" * 10_000)
    assert len(str(error.value)) < 200


class TestSections:
  RULES = {  # noqa: RUF012
    "steps": rules.STEP,
    "eval": rules.IfPresent({"top1": rules.FRACTION}),
    "networks": rules.Each({"loss": rules.RESULT}),
    "sessions": rules.IfPresent(rules.ListOf({"step": rules.STEP})),
  }

  @pytest.mark.parametrize(
    "content",
    [
      {"steps": 1, "networks": {}},
      {"steps": 1, "networks": {"a": {"loss": 0.5}}, "eval": {"top1": 1.0, "other": None}},
      {"steps": 1, "networks": {}, "sessions": []},
      {"steps": 1, "networks": {}, "sessions": [{"step": 1}, {"step": 2}]},
    ],
  )
  def test_valid(self, content):
    rules.check(content, self.RULES)

  @pytest.mark.parametrize(
    ("content", "message"),
    [
      ({"networks": {}}, "steps is missing."),
      ({"steps": -1, "networks": {}}, "steps is -1; it must be a whole number from 0 to"),
      ({"steps": 1, "networks": 3}, "networks is 3; it must be a section."),
      ({"steps": 1, "networks": {"a": []}}, "networks.a is []; it must be a section."),
      ({"steps": 1, "networks": {"a": {}}}, "networks.a.loss is missing."),
      ({"steps": 1, "networks": {}, "eval": None}, "eval is None; it must be a section."),
      ({"steps": 1, "networks": {}, "eval": {"top1": 2}}, "eval.top1 is 2; it must be a number"),
      ({"steps": 1, "networks": {}, "sessions": {}}, "sessions is {}; it must be a list."),
      ({"steps": 1, "networks": {}, "sessions": [3]}, "sessions[0] is 3; it must be a section."),
      (
        {"steps": 1, "networks": {}, "sessions": [{"step": 1}, {"step": -1}]},
        "sessions[1].step is -1; it must be a whole number",
      ),
    ],
  )
  def test_mistakes(self, content, message):
    with pytest.raises(UserError) as error:
      rules.check(content, self.RULES)
    assert str(error.value).startswith(message)

  def test_what_is_no_section_at_all(self):
    with pytest.raises(UserError, match=r"it is \[\]; it must be a section"):
      rules.check([], self.RULES)
