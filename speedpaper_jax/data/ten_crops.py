"""Ten crops of an image: the four corners and the middle, of it and of its mirror image.

So Krizhevsky et al. 2012 evaluate (section 4.1). The rounding of the middle is that of
torchvision's `TenCrop`, which mirrors the image first: left is right in the second half of its
crops.
"""

import numpy as np

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.windows import Windows
from speedpaper_jax.errors import UserError


class TenCrops:
  """Ten crops where `EvaluationCrop` takes one, out of the same resized image.

  The five that are not mirrored lie on one sheet, one below the other.
  """

  def __init__(self, crop: EvaluationCrop) -> None:
    """Takes size, resizing and interpolation of the central crop.

    Raises:
      UserError: the crop is the whole image, so that all corners are the same.
    """
    if crop.resize == "squash" and crop.resized_side == crop.image_size:
      raise UserError(
        "Ten crops of an image that is squashed to their own size are one; set "
        "config.data.eval_central_fraction below 1, such as 0.875, or config.data.eval_resize to "
        "'short_side'."
      )
    self._crop = crop
    size = crop.image_size
    self.windows = Windows(size, np.array([[(size * place, 0) for place in range(5)]], np.int32))

  @property
  def shape(self) -> tuple[int, ...]:
    """Of what an image becomes."""
    size = self._crop.image_size
    return (1, 5 * size, size, 3)

  @property
  def dtype(self) -> type[np.generic]:
    """Of the pixels."""
    return self._crop.dtype

  def __call__(self, image: bytes | np.ndarray) -> np.ndarray:
    """Decodes, resizes and crops an image.

    Args:
      image: encoded, or uint8 `[H, W, C]`.

    Returns:
      RGB `[1, 5·image_size, image_size, 3]` of `dtype`, from 0 to 255: the sheet of `windows`.

    Raises:
      decode.DecodeError: the image is damaged.
    """
    pixels = self._crop.resized(image)
    size = self._crop.image_size
    bottom, right = (side - size for side in pixels.shape[:2])
    middle = (round(bottom / 2), round(right / 2))
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]
    crops = [pixels[top : top + size, left : left + size] for top, left in corners]
    return np.concatenate(crops)[np.newaxis]
