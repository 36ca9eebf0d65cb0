"""Bilinear resizing without antialiasing, in float32: what deep learning libraries do to tensors.

Each pixel of the result lies between two rows and two columns of the image, however much smaller
it becomes; libraries differ in where.
"""

from collections.abc import Callable

import numpy as np


def half_pixel_centers(size: int, count: int) -> np.ndarray:
  """PyTorch's `interpolate(mode="bilinear", align_corners=False)`: centres lie over centres."""
  places = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(count / size) - 0.5
  return np.maximum(places, 0)


def corners(size: int, count: int) -> np.ndarray:
  """TensorFlow 1's `resize_bilinear`: the upper left corners lie over each other."""
  return np.arange(size, dtype=np.float32) * np.float32(count / size)


def resize(
  image: np.ndarray,
  height: int,
  width: int,
  places: Callable[[int, int], np.ndarray] = half_pixel_centers,
) -> np.ndarray:
  """Resizes an image.

  Args:
    image: uint8 [H, W, C].
    height: of the result.
    width: of the result.
    places: pixels of the result and of the image along a side → where the former lie on the
      latter, from 0.

  Returns:
    float32 [height, width, C] with the values of `image`.
  """
  rows = _between(image, places(height, image.shape[0]), axis=0)
  return _between(rows, places(width, image.shape[1]), axis=1)


def _between(image: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
  """Linear interpolation along one axis; only what is needed becomes float32."""
  first = np.minimum(places.astype(int), image.shape[axis] - 1)
  second = np.minimum(first + 1, image.shape[axis] - 1)
  shape = [1, 1, 1]
  shape[axis] = -1
  weight = (places - first).astype(np.float32).reshape(shape)
  before = image.take(first, axis).astype(np.float32)
  return before + weight * (image.take(second, axis).astype(np.float32) - before)
