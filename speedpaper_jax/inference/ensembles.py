"""Ensembles: the mean of the probabilities that several networks give to each class.

Section 4.2.3 of the Batch Normalization paper, section 4 of that on Inception-v4. In plain NumPy;
sums are in float64, in the order of the members.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from speedpaper_jax.inference.right_classes import RightClasses

# Beyond it there are more than a thousand subsets, which takes minutes on 50,000 images.
ALL_SUBSETS_UP_TO = 10

_TOP = 5
_LAST = 2**31 - 1  # behind any number of classes
_ROWS = 128  # at a time, so that sums stay in the processor's cache


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


def average(log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
  """The logarithms of the mean of the members' probabilities: float64 [N, classes].

  The probabilities have the precision of the logarithms, so that who averages those that are saved
  gets the same.

  Args:
    log_probabilities: of each member, [N, classes].
  """
  total = np.zeros(log_probabilities[0].shape)
  for of_member in log_probabilities:
    total += np.exp(of_member)
  with np.errstate(divide="ignore"):
    mean = np.log(total / len(log_probabilities))
  is_tiny = total < np.finfo(np.float32).tiny  # which has lost digits, or all of them
  if is_tiny.any():
    tiny = [of_member[is_tiny].astype(np.float64) for of_member in log_probabilities]
    mean[is_tiny] = np.logaddexp.reduce(tiny) - np.log(len(tiny))
  return mean


def evaluate(log_probabilities: np.ndarray, right: RightClasses) -> dict[str, float]:
  """How good answers are.

  Args:
    log_probabilities: [N, classes].
    right: the classes that are right for each image.

  Returns:
    `top1` and `top5` as fractions, `loss` in nats, unless an image has several right classes, and
    `count`, the number of images. Of classes with the same probability the first comes first.
  """
  return Sums.of(log_probabilities, right).metrics()


@dataclasses.dataclass(frozen=True)
class Sums:
  """What `evaluate` divides by the number of images.

  Attributes:
    count: of images.
    top1: of those whose most probable class is right.
    top5: of those with a right one among the five most probable.
    loss: in nats, over the right classes.
    are_single: whether no image has several of them.
  """

  count: int = 0
  top1: int = 0
  top5: int = 0
  loss: float = 0.0
  are_single: bool = True

  @classmethod
  def of(cls, log_probabilities: np.ndarray, right: RightClasses) -> "Sums":
    """Those of some images; arguments as of `evaluate`."""
    places = ranks(log_probabilities, right)
    of_right = log_probabilities[right.images, right.classes]
    return cls(
      count=right.count,
      top1=int(np.count_nonzero(places < 1)),
      top5=int(np.count_nonzero(places < _TOP)),
      loss=-float(np.sum(of_right, dtype=np.float64)),
      are_single=right.are_single,
    )

  def __add__(self, other: "Sums") -> "Sums":
    return Sums(
      count=self.count + other.count,
      top1=self.top1 + other.top1,
      top5=self.top5 + other.top5,
      loss=self.loss + other.loss,
      are_single=self.are_single and other.are_single,
    )

  def metrics(self) -> dict[str, float]:
    """As `evaluate` returns them; there is at least one image."""
    loss = {"loss": self.loss / self.count} if self.are_single else {}
    of_all = {"top1": self.top1 / self.count, "top5": self.top5 / self.count}
    return {**of_all, **loss, "count": self.count}


def ranks(log_probabilities: np.ndarray, right: RightClasses) -> np.ndarray:
  """How many classes come before the first right one of each image: int [N].

  An answer that has a NaN is wrong: `_LAST`.
  """
  columns = np.arange(log_probabilities.shape[-1])
  found = np.full(right.count, _LAST)
  for rows in _slices(right.count):
    block, pairs = log_probabilities[rows], right.among(rows)
    of_pairs, own = block[pairs.images], block[pairs.images, pairs.classes][:, None]
    first = columns < pairs.classes[:, None]
    before = np.sum((of_pairs > own) | ((of_pairs == own) & first), -1)
    before[np.isnan(of_pairs).any(-1)] = _LAST
    np.minimum.at(found[rows], pairs.images, before)
  return found


def by_count(log_probabilities: Sequence[np.ndarray], right: RightClasses) -> list[ByCount]:
  """How the top-1 error falls with the number of members.

  Args:
    log_probabilities: of each member, [N, classes].
    right: the classes that are right for each image.

  Returns:
    For each number of members, from one to all, the error over all subsets of so many; with more
    than `ALL_SUBSETS_UP_TO` members that of the first so many alone.
  """
  members = len(log_probabilities)
  wrong: dict[tuple[int, ...], int] = {}
  for rows in _slices(right.count):
    block = np.exp(np.array([of_member[rows] for of_member in log_probabilities], np.float64))
    is_right = right.among(rows).as_mask(block.shape[-1])
    images = np.arange(len(is_right))
    for subset, total in _sums(block, all_subsets=members <= ALL_SUBSETS_UP_TO):
      mistakes = int(np.count_nonzero(~is_right[images, np.argmax(total, -1)]))
      wrong[subset] = wrong.get(subset, 0) + mistakes
  curve = []
  for count in range(1, members + 1):
    errors = [number / right.count for subset, number in wrong.items() if len(subset) == count]
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
