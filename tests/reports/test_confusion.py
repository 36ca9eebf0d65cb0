"""How often images of one class are taken for another, beside NumPy written out."""

import numpy as np
import pytest

from speedpaper_jax.reports.confusion import Confusion

CLASSES = 6


@pytest.fixture(scope="module")
def pairs():
  """Class and what it is taken for, of 400 images [400, 2]; of class 4 there is none."""
  generator = np.random.default_rng(0)
  own = generator.choice([0, 1, 2, 3, 5], 400)
  return np.stack(
    [own, np.where(generator.random(400) < 0.6, own, generator.integers(6, size=400))], 1
  )


@pytest.fixture(scope="module")
def confusion(pairs):
  return Confusion(map(tuple, pairs.tolist()))


@pytest.fixture(scope="module")
def expected(pairs):
  """The matrix, pair by pair."""
  return np.array(
    [[np.sum((pairs == (own, taken)).all(1)) for taken in range(CLASSES)] for own in range(CLASSES)]
  )


def test_matrix(confusion, expected):
  np.testing.assert_array_equal(confusion.matrix(CLASSES), expected)
  assert confusion.matrix(CLASSES).sum() == 400


def test_right(confusion, expected):
  assert confusion.right == np.trace(expected)


def test_by_class(confusion, expected):
  classes = confusion.by_class()
  assert [each.number for each in classes] == [0, 1, 2, 3, 5]
  for each in classes:
    row = expected[each.number]
    others = np.where(np.arange(CLASSES) == each.number, 0, row)
    assert (each.images, each.right) == (row.sum(), row[each.number])
    assert each.accuracy == pytest.approx(row[each.number] / row.sum())
    assert (each.mostly, each.times) == (np.argmax(others), others.max())


def test_mistakes_are_in_falling_order(confusion, expected):
  mistakes = confusion.mistakes()
  assert all(count == expected[own, taken] > 0 for own, taken, count in mistakes)
  assert sum(count for _, _, count in mistakes) == 400 - confusion.right
  assert mistakes == sorted(mistakes, key=lambda mistake: (-mistake[2], *mistake[:2]))


def test_a_class_that_is_always_right():
  (only,) = Confusion([(3, 3), (3, 3)]).by_class()
  assert (only.number, only.images, only.right, only.times) == (3, 2, 2, 0)
  assert Confusion([(3, 3)]).mistakes() == []
