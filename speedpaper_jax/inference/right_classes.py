"""Which answers are right: one class an image, or several, as the ReaL labels have them."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class RightClasses:
  """Pairs of an image and a class that is right for it.

  Attributes:
    count: of images.
    images: int `[pairs]`, numbers of the images, none of which is missing, in rising order.
    classes: int `[pairs]`.
  """

  count: int
  images: np.ndarray
  classes: np.ndarray

  @classmethod
  def one_each(cls, labels: np.ndarray) -> "RightClasses":
    """Of images with one label each, int `[N]`."""
    return cls(len(labels), np.arange(len(labels)), np.asarray(labels))

  @classmethod
  def several(cls, of_images: Sequence[Sequence[int]]) -> "RightClasses":
    """Of images with one class or more each."""
    numbers = np.repeat(np.arange(len(of_images)), [len(classes) for classes in of_images])
    return cls(len(of_images), numbers, np.array([one for each in of_images for one in each], int))

  @property
  def are_single(self) -> bool:
    """Whether no image has several."""
    return len(self.images) == self.count

  @property
  def first(self) -> np.ndarray:
    """The first of each image's, int `[N]`."""
    return self.classes[np.searchsorted(self.images, np.arange(self.count))]

  def among(self, rows: slice) -> "RightClasses":
    """Those of the images `rows`, numbered anew from 0."""
    first, last, _ = rows.indices(self.count)
    begin, end = np.searchsorted(self.images, (first, last))
    return RightClasses(last - first, self.images[begin:end] - first, self.classes[begin:end])

  def as_mask(self, classes: int) -> np.ndarray:
    """Whether a class is right for an image, bool `[N, classes]`."""
    mask = np.zeros((self.count, classes), bool)
    mask[self.images, self.classes] = True
    return mask
