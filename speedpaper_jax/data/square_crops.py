"""12 and 144 crops of an image: squares at several scales, and six crops and their mirror images.

"Going Deeper with Convolutions", section 7: the short side is resized to 256, 288, 320 and 352
pixels. Of each of these images the left, central and right square are taken, or the top, central
and bottom one. Of each square the four corners, the middle, and the whole square resized; of each
of these its mirror image, too: 4 × 3 × 6 × 2 = 144. 12 crops, of which the papers on Inception-v3
and -v4 print results, are nowhere described: here they are those of the central square of the
smallest scale.
"""

from collections.abc import Sequence

import numpy as np

from speedpaper_jax.data import decode
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.windows import Windows

NUMBERS = (12, 144)
SCALES = ("proportional", "grown")

_SIZE = 224  # of the crops that the scales are given for
_SIDES = (256, 288, 320, 352)
_STEP = 32  # from one scale to the next


def sides(image_size: int, scales: str) -> tuple[int, ...]:
  """The short sides that images are resized to.

  The papers give them for crops of 224 pixels alone. For others there are two readings.

  Args:
    image_size: of the crops, in pixels.
    scales: "proportional" keeps each side's proportion to the crop: 342, 384, 427 and 470 for 299;
      "grown" adds as many steps of 32 pixels as lie between 224 and the crop's size: 320, 352, 384
      and 416 for 299, as soeaver/caffe-model has it.
  """
  if scales == "proportional":
    return tuple(round(side * image_size / _SIZE) for side in _SIDES)
  added = (image_size - _SIZE) // _STEP * _STEP
  return tuple(side + added for side in _SIDES)


class SquareCrops:
  """The 12 or 144 crops of an image.

  Each square is a sheet: it stands in the upper left corner, and below the largest square's place
  the resized one.
  """

  def __init__(self, crop: EvaluationCrop, number: int, scales: str = "proportional") -> None:
    """Takes size and interpolation of the central crop.

    Args:
      crop: of one.
      number: one of `NUMBERS`.
      scales: one of `SCALES`.
    """
    self._crop = crop
    of_all = sides(crop.image_size, scales)
    self.sides: Sequence[int] = of_all[:1] if number == min(NUMBERS) else of_all
    self._squares = 1 if number == min(NUMBERS) else 3
    corners = [_corners(side, crop.image_size, max(self.sides)) for side in self.sides]
    self.windows = Windows(
      crop.image_size, np.repeat(np.array(corners, np.int32), self._squares, axis=0)
    )

  @property
  def shape(self) -> tuple[int, ...]:
    """Of what an image becomes."""
    largest = max(self.sides)
    return (len(self.windows.corners), largest + self._crop.image_size, largest, 3)

  @property
  def dtype(self) -> type[np.generic]:
    """Of the pixels."""
    return self._crop.dtype

  def __call__(self, image: bytes | np.ndarray) -> np.ndarray:
    """Decodes an image, and resizes it to all scales.

    Args:
      image: encoded, or uint8 `[H, W, C]`.

    Returns:
      RGB `[squares, largest side + image_size, largest side, 3]` of `dtype`, from 0 to 255: the
      sheets of `windows`, black where there is nothing.

    Raises:
      decode.DecodeError: the image is damaged.
    """
    rgb = decode.to_rgb(decode.open_image(image))
    sheets = np.zeros(self.shape, self.dtype)
    size, number = self._crop.image_size, 0
    for side in self.sides:
      scaled = self._crop.with_short_side(rgb, side)
      for square in _squares(scaled, side, self._squares):
        sheets[number, :side, :side] = square
        sheets[number, -size:, :size] = self._crop.resize_pixels(square, size)
        number += 1
    return sheets


def _corners(side: int, size: int, largest: int) -> list[tuple[int, int]]:
  """Of the windows of a sheet: four corners, the middle, and the resized square below."""
  far, middle = side - size, round((side - size) / 2)
  return [(0, 0), (0, far), (far, 0), (far, far), (middle, middle), (largest, 0)]


def _squares(pixels: np.ndarray, side: int, number: int) -> list[np.ndarray]:
  """Those at the beginning, in the middle and at the end of the long side, or the one there."""
  height, width = pixels.shape[:2]
  along = max(height, width) - side
  places = [round(along / 2)] if number == 1 else [0, round(along / 2), along]
  if width >= height:
    return [pixels[:, left : left + side] for left in places]
  return [pixels[top : top + side] for top in places]
