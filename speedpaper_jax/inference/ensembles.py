"""Ensembles: the mean of the probabilities that several networks give to each class.

Section 4.2.3 of the Batch Normalization paper, section 4 of that on Inception-v4. In plain NumPy;
sums are in float64, in the order of the members.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

# Beyond it there are more than a thousand subsets, which takes minutes on 50,000 images.
ALL_SUBSETS_UP_TO = 10

_TOP = 5
_ROWS = 128  # at a time, so that sums stay in the processor's cache
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclasses.dataclass(frozen=True)
class ByCount:
  """The top-1 error of ensembles of so many members, as fractions.

  Attributes:
    count: of members.
    subsets: of all members, of so many each.
    mean: over the subsets.
    lowest: of the best subset.
    highest: of the worst one.
  """

  count: int
  subsets: int
  mean: float
  lowest: float
  highest: float


def average(probabilities: Sequence[np.ndarray]) -> np.ndarray:
  """The mean of the members' probabilities: float64 [N, classes].

  Args:
    probabilities: of each member, [N, classes].
  """
  total = np.zeros(probabilities[0].shape)
  for of_member in probabilities:
    total += of_member
  return total / len(probabilities)


def evaluate(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """How good probabilities are.

  Args:
    probabilities: [N, classes].
    labels: [N].

  Returns:
    `top1` and `top5` as fractions, `loss` in nats, and `count`, the number of images. Of classes
    with the same probability the first comes first. A probability of zero counts as the smallest
    number of float32 in the loss, 1.2e-38.
  """
  columns = np.arange(probabilities.shape[-1])
  before = np.empty(len(labels), np.int64)
  for rows in _slices(len(labels)):
    block, of_labels = probabilities[rows], labels[rows, None]
    own = np.take_along_axis(block, of_labels, -1)
    before[rows] = np.sum((block > own) | ((block == own) & (columns < of_labels)), -1)
  of_labels = probabilities[np.arange(len(labels)), labels].astype(np.float64)
  return {
    "top1": float(np.mean(before < 1)),
    "top5": float(np.mean(before < _TOP)),
    "loss": float(np.mean(-np.log(np.maximum(of_labels, _SMALLEST)))),
    "count": len(labels),
  }


def by_count(probabilities: Sequence[np.ndarray], labels: np.ndarray) -> list[ByCount]:
  """How the top-1 error falls with the number of members.

  Args:
    probabilities: of each member, [N, classes].
    labels: [N].

  Returns:
    For each number of members, from one to all, the error over all subsets of so many; with more
    than `ALL_SUBSETS_UP_TO` members that of the first so many alone.
  """
  members = len(probabilities)
  wrong: dict[tuple[int, ...], int] = {}
  for rows in _slices(len(labels)):
    block = np.array([of_member[rows] for of_member in probabilities], np.float64)
    for subset, total in _sums(block, all_subsets=members <= ALL_SUBSETS_UP_TO):
      mistakes = int(np.count_nonzero(np.argmax(total, -1) != labels[rows]))
      wrong[subset] = wrong.get(subset, 0) + mistakes
  curve = []
  for count in range(1, members + 1):
    errors = [number / len(labels) for subset, number in wrong.items() if len(subset) == count]
    mean = sum(errors) / len(errors)
    curve.append(ByCount(count, len(errors), mean, min(errors), max(errors)))
  return curve


def _sums(
  block: np.ndarray, all_subsets: bool, before: tuple[int, ...] = (), total: np.ndarray | float = 0
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
  """Subsets that begin as `before` does, with the sums of their members.

  Args:
    block: [members, N, classes].
    all_subsets: or only the first members, of each number.
    before: the numbers of some members, rising.
    total: of these.
  """
  first = before[-1] + 1 if before else 0
  for member in range(first, len(block) if all_subsets else min(first + 1, len(block))):
    subset, with_it = (*before, member), total + block[member]
    yield subset, with_it
    yield from _sums(block, all_subsets, subset, with_it)


def _slices(rows: int) -> Iterator[slice]:
  """So many rows at a time."""
  return (slice(first, first + _ROWS) for first in range(0, rows, _ROWS))
