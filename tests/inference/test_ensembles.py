"""The mean of several networks' probabilities, and how the error falls with their number."""

import itertools

import numpy as np
import pytest

from speedpaper_jax.inference import ensembles

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


def test_the_mean():
  probabilities, _ = make()
  found = ensembles.average(probabilities)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, probabilities.astype(np.float64).mean(0), rtol=1e-15)
  np.testing.assert_array_equal(ensembles.average(list(probabilities)), found)


def test_results_are_those_of_the_definition():
  (probabilities, *_), labels = make()
  found = ensembles.evaluate(probabilities, labels)
  ranks = [sorted(range(CLASSES), key=lambda k: -row[k]) for row in probabilities]
  assert found == {
    "top1": np.mean([rank[0] == label for rank, label in zip(ranks, labels, strict=True)]),
    "top5": np.mean([label in rank[:5] for rank, label in zip(ranks, labels, strict=True)]),
    "loss": pytest.approx(-np.log(probabilities[np.arange(IMAGES), labels].astype(float)).mean()),
    "count": IMAGES,
  }
  assert 0 < found["top1"] < found["top5"] < 1


def test_of_equal_probabilities_the_first_comes_first():
  found = ensembles.evaluate(np.full((7, 7), 1 / 7), np.arange(7))
  assert (found["top1"], found["top5"]) == (1 / 7, 5 / 7)


def test_a_probability_of_zero_is_no_infinite_loss():
  probabilities = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
  found = ensembles.evaluate(probabilities, np.array([0, 1]))
  assert found["loss"] == pytest.approx(87.3365 / 2)


def test_the_error_over_all_subsets():
  probabilities, labels = make()
  curve = ensembles.by_count(probabilities, labels)
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
  first, *_, last = ensembles.by_count(probabilities, labels)
  alone = [1 - ensembles.evaluate(p, labels)["top1"] for p in probabilities]
  assert first.mean == pytest.approx(np.mean(alone), rel=1e-12)
  assert (first.lowest, first.highest) == pytest.approx((min(alone), max(alone)), rel=1e-12)
  together = ensembles.evaluate(ensembles.average(probabilities), labels)
  assert last.lowest == last.mean == last.highest == pytest.approx(1 - together["top1"], rel=1e-12)


def test_one_member():
  (row,) = ensembles.by_count(*make(members=1))
  assert (row.count, row.subsets) == (1, 1)
  assert row.lowest == row.mean == row.highest > 0


def test_of_many_members_the_first_ones_alone():
  members = ensembles.ALL_SUBSETS_UP_TO + 1
  probabilities, labels = make(members)
  curve = ensembles.by_count(probabilities, labels)
  assert [(row.count, row.subsets) for row in curve] == [(k, 1) for k in range(1, members + 1)]
  for row in curve:
    assert row.mean == error_of(probabilities[: row.count], labels)
