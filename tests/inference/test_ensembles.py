"""The mean of several networks' probabilities, and how the error falls with their number."""

import itertools

import numpy as np
import pytest

from speedpaper_jax.inference import ensembles
from speedpaper_jax.inference.right_classes import RightClasses

MEMBERS, IMAGES, CLASSES = 4, 300, 7


def make(members=MEMBERS, seed=0):
  """Probabilities of members that are right rather often, and the labels."""
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, CLASSES, IMAGES)
  logits = generator.normal(0, 1, (members, IMAGES, CLASSES))
  logits[:, np.arange(IMAGES), labels] += 1
  p = np.exp(logits)
  return (p / p.sum(-1, keepdims=True)).astype(np.float32), labels


def error_of(probabilities, labels):
  """Image by image."""
  wrong = 0
  for image, label in enumerate(labels):
    total = [sum(float(p[image, k]) for p in probabilities) for k in range(CLASSES)]
    wrong += total.index(max(total)) != label
  return wrong / len(labels)


def logarithms(probabilities):
  return [np.log(p) for p in probabilities]


def one_each(labels):
  return RightClasses.one_each(labels)


def test_the_mean():
  probabilities, _ = make()
  found = ensembles.average(logarithms(probabilities))
  assert found.dtype == np.float64
  np.testing.assert_allclose(np.exp(found), probabilities.astype(np.float64).mean(0), rtol=1e-6)


def test_the_mean_of_what_is_less_than_any_number():
  of_each = np.array([[-2000.0, 0.0], [-1000.0, 0.0]])
  found = ensembles.average(of_each[:, np.newaxis])
  np.testing.assert_allclose(found, [[-1000 - np.log(2), 0]], rtol=1e-15)


def test_results_are_those_of_the_definition():
  (probabilities, *_), labels = make()
  found = ensembles.evaluate(np.log(probabilities), one_each(labels))
  ranks = [sorted(range(CLASSES), key=lambda k: -row[k]) for row in probabilities]
  assert found == {
    "top1": np.mean([rank[0] == label for rank, label in zip(ranks, labels, strict=True)]),
    "top5": np.mean([label in rank[:5] for rank, label in zip(ranks, labels, strict=True)]),
    "loss": pytest.approx(-np.log(probabilities[np.arange(IMAGES), labels].astype(float)).mean()),
    "count": IMAGES,
  }
  assert 0 < found["top1"] < found["top5"] < 1


def test_with_several_right_classes_any_of_them_counts_and_there_is_no_loss():
  (probabilities, *_), labels = make()
  generator = np.random.default_rng(1)
  several = [
    sorted({label, *generator.integers(0, CLASSES, generator.integers(0, 3)).tolist()})
    for label in labels.tolist()
  ]
  assert {len(right) for right in several} == {1, 2, 3}
  found = ensembles.evaluate(np.log(probabilities), RightClasses.several(several))
  ranks = [sorted(range(CLASSES), key=lambda k: -row[k]) for row in probabilities]
  hits = [set(rank[:1]) & set(right) for rank, right in zip(ranks, several, strict=True)]
  among_five = [set(rank[:5]) & set(right) for rank, right in zip(ranks, several, strict=True)]
  assert found == {
    "top1": np.mean([bool(hit) for hit in hits]),
    "top5": np.mean([bool(hit) for hit in among_five]),
    "count": IMAGES,
  }
  (row,) = ensembles.by_count([np.log(probabilities)], RightClasses.several(several))
  assert row.mean == pytest.approx(1 - found["top1"], rel=1e-12)
  assert found["top1"] > ensembles.evaluate(np.log(probabilities), one_each(labels))["top1"]


def test_of_equal_probabilities_the_first_comes_first():
  found = ensembles.evaluate(np.full((7, 7), np.log(1 / 7)), one_each(np.arange(7)))
  assert (found["top1"], found["top5"]) == (1 / 7, 5 / 7)


def test_an_answer_that_is_no_number_is_wrong():
  answers = np.log(np.full((3, 2), 0.5))
  answers[1, 1] = np.nan
  found = ensembles.evaluate(answers, one_each(np.zeros(3, int)))
  assert (found["top1"], found["top5"]) == (2 / 3, 2 / 3)


def test_the_error_over_all_subsets():
  probabilities, labels = make()
  curve = ensembles.by_count(logarithms(probabilities), one_each(labels))
  assert [(row.count, row.subsets) for row in curve] == [(1, 4), (2, 6), (3, 4), (4, 1)]
  for row in curve:
    errors = [
      error_of(subset, labels) for subset in itertools.combinations(probabilities, row.count)
    ]
    assert (row.lowest, row.highest) == (min(errors), max(errors))
    assert row.mean == pytest.approx(np.mean(errors), rel=1e-12)
  assert curve[0].lowest < curve[0].highest
  assert curve[-1].mean < curve[1].mean < curve[0].mean


def test_its_ends_are_the_members_and_the_ensemble():
  probabilities, labels = make()
  first, *_, last = ensembles.by_count(logarithms(probabilities), one_each(labels))
  alone = [1 - ensembles.evaluate(np.log(p), one_each(labels))["top1"] for p in probabilities]
  assert first.mean == pytest.approx(np.mean(alone), rel=1e-12)
  assert (first.lowest, first.highest) == pytest.approx((min(alone), max(alone)), rel=1e-12)
  together = ensembles.evaluate(ensembles.average(logarithms(probabilities)), one_each(labels))
  assert last.lowest == last.mean == last.highest == pytest.approx(1 - together["top1"], rel=1e-12)


def test_one_member():
  probabilities, labels = make(members=1)
  (row,) = ensembles.by_count(logarithms(probabilities), one_each(labels))
  assert (row.count, row.subsets) == (1, 1)
  assert row.lowest == row.mean == row.highest > 0


def test_of_many_members_the_first_ones_alone():
  members = ensembles.ALL_SUBSETS_UP_TO + 1
  probabilities, labels = make(members)
  curve = ensembles.by_count(logarithms(probabilities), one_each(labels))
  assert [(row.count, row.subsets) for row in curve] == [(k, 1) for k in range(1, members + 1)]
  for row in curve:
    assert row.mean == error_of(probabilities[: row.count], labels)
