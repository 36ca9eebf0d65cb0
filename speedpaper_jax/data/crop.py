"""Crops of an image, resized to a square: the random one of training, the central one."""

import math

import numpy as np
from PIL import Image

from speedpaper_jax.data import decode

# Left, top, right and bottom as fractions of the image, so that a box fits every decoded scale.
Box = tuple[float, float, float, float]

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
ASPECT_RANGE = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def central_crop(image: bytes | np.ndarray, image_size: int, central_fraction: float) -> np.ndarray:
  """The evaluation crop: the middle `central_fraction` of both sides, resized.

  As in TF-slim the resize is bilinear and distorts the aspect; unlike there Pillow's is
  antialiased. The image is decoded at full size, so that the result does not depend on shortcuts.

  Args:
    image: encoded, or uint8 `[H, W, C]`.
    image_size: side of the result, in pixels.
    central_fraction: in (0, 1]; 1 resizes the whole image.

  Returns:
    RGB, uint8 `[image_size, image_size, 3]`.

  Raises:
    decode.DecodeError: the image is damaged.
  """
  margin = (1 - central_fraction) / 2
  box = (margin, margin, 1 - margin, 1 - margin)
  rgb = decode.to_rgb(decode.open_image(image))
  return np.asarray(resize_box(rgb, box, image_size, Image.Resampling.BILINEAR))


def random_box(
  height: int, width: int, area_range: tuple[float, float], rng: np.random.Generator
) -> Box:
  """Draws the patch of "Going Deeper with Convolutions", section 6.

  Its area is uniform in `area_range` of the image's, its aspect log-uniform in [3/4, 4/3]. A patch
  that does not fit is drawn again; when none fits, it is the largest central one of legal aspect.
  """
  log_aspect_range = np.log(ASPECT_RANGE)
  for _ in range(_ATTEMPTS):
    area = height * width * rng.uniform(*area_range)
    aspect = math.exp(rng.uniform(*log_aspect_range))
    patch_width, patch_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    if patch_width <= width and patch_height <= height:
      left = rng.uniform(0, 1 - patch_width / width)
      top = rng.uniform(0, 1 - patch_height / height)
      return left, top, left + patch_width / width, top + patch_height / height
  aspect = min(max(width / height, ASPECT_RANGE[0]), ASPECT_RANGE[1])
  x_margin = (1 - min(width, height * aspect) / width) / 2
  y_margin = (1 - min(height, width / aspect) / height) / 2
  return x_margin, y_margin, 1 - x_margin, 1 - y_margin


def crop_encoded(
  image: Image.Image, box: Box, image_size: int, resampling: Image.Resampling
) -> Image.Image:
  """Decodes an opened image no larger than `box` needs, then crops and resizes."""
  height, width = decode.upright_size(image)
  left, top, right, bottom = box
  shrink = min((right - left) * width, (bottom - top) * height) / image_size
  return resize_box(decode.to_rgb(image, shrink), box, image_size, resampling)


def resize_box(
  rgb: Image.Image, box: Box, image_size: int, resampling: Image.Resampling
) -> Image.Image:
  """Resizes the part of `rgb` inside `box` to `image_size` × `image_size`."""
  if box == WHOLE and rgb.size == (image_size, image_size):
    return rgb
  left, top, right, bottom = box
  pixels = (left * rgb.width, top * rgb.height, right * rgb.width, bottom * rgb.height)
  inside = (pixels[0], pixels[1], min(pixels[2], rgb.width), min(pixels[3], rgb.height))
  return rgb.resize((image_size, image_size), resampling, box=inside)
