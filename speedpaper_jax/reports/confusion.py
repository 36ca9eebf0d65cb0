"""How often images of one class are taken for another."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class OfClass:
  """What became of the images of one class.

  Attributes:
    number: of the class.
    images: that it has.
    right: of them, those that are taken for what they are.
    mostly: the other class that they are taken for most often, the first of several.
    times: how often they are taken for that; 0 where all are right.
  """

  number: int
  images: int
  right: int
  mostly: int
  times: int

  @property
  def accuracy(self) -> float:
    """The fraction that is right."""
    return self.right / self.images


class Confusion:
  """Counts of images by their class and by what they were taken for.

  Only pairs that occur take memory, whatever the number of classes.
  """

  def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
    """Counts.

    Args:
      pairs: of each image, the number of its class and of the class that it was taken for.
    """
    self._counts = collections.Counter(pairs)

  @property
  def right(self) -> int:
    """How many images are taken for what they are."""
    return sum(count for (own, taken), count in self._counts.items() if own == taken)

  def matrix(self, num_classes: int) -> np.ndarray:
    """Counts, [classes, classes]: a row for each class, a column for each it is taken for."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    for pair, count in self._counts.items():
      counts[pair] = count
    return counts

  def mistakes(self) -> list[tuple[int, int, int]]:
    """Class, what it is taken for, and how often; the most frequent first, then by number."""
    wrong = [(own, taken, n) for (own, taken), n in self._counts.items() if own != taken]
    return sorted(wrong, key=lambda mistake: (-mistake[2], mistake))

  def by_class(self) -> list[OfClass]:
    """Of each class that has images, in the order of their numbers."""
    images: collections.Counter[int] = collections.Counter()
    for (own, _), count in self._counts.items():
      images[own] += count
    mostly: Mapping[int, tuple[int, int]] = {
      own: (taken, count) for own, taken, count in reversed(self.mistakes())
    }
    return [
      OfClass(own, images[own], self._counts[own, own], *mostly.get(own, (own, 0)))
      for own in sorted(images)
    ]
