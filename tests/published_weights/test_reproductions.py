"""The tables of published results."""

import re
from decimal import Decimal

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.papers import printed_errors
from speedpaper_jax.published_weights import reproductions, table, verdicts


def test_each_row_has_what_a_verdict_needs():
  for name in reproductions.TABLES:
    rows = reproductions.rows_of(name)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
      table.find(row.evaluation.weights)
      assert bool(row.allowance) != bool(row.why_not_judged)
      printed = [each for each in (row.top1, row.top5) if each != reproductions.NOT_PRINTED]
      assert printed
      assert all(re.fullmatch(r"\d\d?\.\d+", each) for each in printed)


def test_validation_has_all_weights_of_imagenet_with_a_printed_accuracy():
  rows = {row.evaluation.weights: row for row in reproductions.rows_of("validation")}
  for weights in table.ROWS:
    has_one = weights.top1 != "–" and weights.num_classes in (1000, 1001)
    assert (weights.name in rows) == has_one
    if has_one:
      row = rows[weights.name]
      assert (row.top1, row.top5) == (weights.top1, weights.top5)
      assert row.evaluation[1:] == ("imagenet2012", "validation", 1, False)
      assert row.images == 50_000


def test_other_sets_are_timms_five_of_each_of_its_weights():
  rows = reproductions.rows_of("other_sets")
  timms = [row.name for row in table.ROWS if row.package == "timm"]
  assert len(rows) == 5 * len(timms)
  for weights in timms:
    own = [row for row in rows if row.evaluation.weights == weights]
    assert [(row.evaluation.data, row.evaluation.reassessed) for row in own] == [
      ("imagenet2012", True),
      ("imagenet_v2/matched-frequency", False),
      ("imagenet_a", False),
      ("imagenet_r", False),
      ("imagenet_sketch", False),
    ]
    # A is the hardest, R and Sketch are between it and V2; reassessed labels are the kindest.
    real, v2, a, r, sketch = (float(row.top1) for row in own)
    assert a < sketch < r < v2 < real


def test_crops_are_all_that_the_papers_print_of_one_network_and_are_not_judged():
  rows = reproductions.rows_of("crops")
  found = {(row.evaluation.crops, row.name.partition(" beside ")[2], row.top5) for row in rows}
  of_one = [
    row
    for row in printed_errors.PRINTED_ERRORS
    if len(row.networks) == 1 and row.crops in (12, 144) and row.networks != ("googlenet",)
  ]
  assert found == {(row.crops, row.source, str(100 - Decimal(str(row.top5)))) for row in of_one}
  assert {row.allowance for row in rows} == {None}


def test_rows_of_some_weights_in_the_tables_order():
  rows = reproductions.rows_of("validation", ["timm/inception_v4", "torchvision/googlenet"])
  assert [row.evaluation.weights for row in rows] == [
    "timm/inception_v4.tf_in1k",
    "torchvision/googlenet",
  ]


def test_weights_without_a_row():
  with pytest.raises(UserError, match="The table 'validation' has no row of 'pytorch-fid/incep"):
    reproductions.rows_of("validation", ["pytorch-fid/inception_v3"])


def test_a_tolerance_is_wider_than_half_of_the_last_digit_and_narrower_than_networks_differ():
  for row in reproductions.rows_of("validation"):
    limit = verdicts.tolerance(row.top1, row.allowance)
    assert limit > Decimal(1).scaleb(Decimal(row.top1).as_tuple().exponent) / 2
    if not row.name.startswith("keras/"):
      assert limit <= Decimal("0.105")
