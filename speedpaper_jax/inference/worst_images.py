"""The worst mistakes: images of which a network is surest that they are of a wrong class."""

import contextlib
import dataclasses
from collections.abc import Iterable

import numpy as np

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.sources import Split
from speedpaper_jax.inference.right_classes import RightClasses


@dataclasses.dataclass(frozen=True, eq=False)
class Mistake:
  """An image that is taken for another class than its own.

  Attributes:
    pixels: uint8 [size, size, 3].
    own: number of its class.
    taken: of the one that it is taken for.
    probability: of that.
  """

  pixels: np.ndarray
  own: int
  taken: int
  probability: float


def find(log_probabilities: np.ndarray, right: RightClasses, count: int) -> np.ndarray:
  """The rows of at most `count` wrong answers, the surest first.

  Args:
    log_probabilities: [N, classes].
    right: the classes that are right for each image.
    count: of rows.
  """
  predicted = np.argmax(log_probabilities, -1)
  hits = predicted[right.images] == right.classes
  is_wrong = np.ones(right.count, bool)
  is_wrong[right.images[hits]] = False
  wrong = np.flatnonzero(is_wrong)
  surest = log_probabilities[wrong, predicted[wrong]]
  return wrong[np.argsort(-surest, kind="stable")][:count]


def pixels(split: Split, numbers: Iterable[int], crop: EvaluationCrop) -> dict[int, np.ndarray]:
  """What the network sees of some images, uint8 [size, size, 3], by their numbers in the split.

  An image that has gone since the evaluation is not among them.
  """
  found = {}
  for number in numbers:
    with contextlib.suppress(DecodeError):
      image = crop(split.records[int(number)]["image"])
      found[int(number)] = np.clip(np.round(image), 0, 255).astype(np.uint8)
  return found


def look_at(
  log_probabilities: np.ndarray,
  right: RightClasses,
  numbers: np.ndarray,
  split: Split,
  crop: EvaluationCrop,
  count: int,
) -> list[Mistake]:
  """At most `count` of the worst mistakes, the worst first.

  Args:
    log_probabilities: [N, classes].
    right: the classes that are right for each image.
    numbers: [N], of the images in the split.
    split: the images.
    crop: what is shown of them.
    count: of images.
  """
  rows = find(log_probabilities, right, count).tolist()
  seen = pixels(split, numbers[rows], crop)
  own = right.first
  found = []
  for row in rows:
    taken = int(np.argmax(log_probabilities[row]))
    if (number := int(numbers[row])) in seen:
      probability = float(np.exp(log_probabilities[row, taken]))
      found.append(Mistake(seen[number], int(own[row]), taken, probability))
  return found
