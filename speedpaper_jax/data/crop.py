"""Crops of an image, resized to a square: the random one of training, the central one."""

import dataclasses
import math

import numpy as np
from PIL import Image

from speedpaper_jax.data import decode, sampling
from speedpaper_jax.data.crop_choices import INTERPOLATIONS, RESIZES, SMALLEST_FRACTION
from speedpaper_jax.files import rules

# Left, top, right and bottom as fractions of the image, so that a box fits every decoded scale.
Box = tuple[float, float, float, float]

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
ASPECT_RANGE = (3 / 4, 4 / 3)
_ANTIALIASED = {
  "bilinear": Image.Resampling.BILINEAR,
  "bicubic": Image.Resampling.BICUBIC,
}
# Their values are not rounded.
_SAMPLED = {
  "bilinear_pytorch": sampling.half_pixel_centers,
  "bilinear_tensorflow1": sampling.corners,
}
_ATTEMPTS = 10
_REACH = 3  # of a filter in pixels; 2 is that of the bicubic one
_ROUNDING = 1e-6  # of a fraction that stands for whole pixels
_LONGEST_ASPECT = 100


@dataclasses.dataclass(frozen=True)
class EvaluationCrop:
  """The crop of evaluation: the middle of an image, resized to a square.

  Attributes:
    image_size: side of the square, in pixels.
    central_fraction: from 0.1 to 1; how much of the image, along its short side at least, is kept.
    resize: "squash" keeps that fraction of both sides and distorts the aspect, as TF-slim does;
      "short_side" keeps the aspect and cuts the long side more, as torchvision and timm do: the
      short side is resized to image_size / central_fraction and the middle cut out.
    interpolation: "bilinear" or "bicubic", Pillow's, which are antialiased; "bilinear_pytorch" or
      "bilinear_tensorflow1", which are not and give float32, see `sampling`.
  """

  image_size: int
  central_fraction: float = 1.0
  resize: str = "squash"
  interpolation: str = "bilinear"

  def __post_init__(self) -> None:
    rules.IMAGE_SIZE.check("image_size", self.image_size)
    rules.between(SMALLEST_FRACTION, 1).check("central_fraction", self.central_fraction)
    rules.one_of(RESIZES).check("resize", self.resize)
    rules.one_of(INTERPOLATIONS).check("interpolation", self.interpolation)

  def __call__(self, image: bytes | np.ndarray) -> np.ndarray:
    """Decodes, crops and resizes an image.

    It is decoded at full size, so that the result does not depend on shortcuts.

    Args:
      image: encoded, or uint8 `[H, W, C]`.

    Returns:
      RGB `[image_size, image_size, 3]` of `dtype`, from 0 to 255.

    Raises:
      decode.DecodeError: the image is damaged.
    """
    if self.resize == "short_side":
      resized = self.resized(image)
      # Size and corner are rounded as torchvision does.
      top, left = (round((side - self.image_size) / 2) for side in resized.shape[:2])
      return resized[top : top + self.image_size, left : left + self.image_size]
    rgb = decode.to_rgb(decode.open_image(image))
    if self.interpolation in _SAMPLED:
      margin = (1 - self.central_fraction) / 2
      left, top = round(margin * rgb.width), round(margin * rgb.height)
      middle = rgb.crop((left, top, rgb.width - left, rgb.height - top))
      return self._resize(middle, self.image_size, self.image_size)
    box = central_box(self.central_fraction)
    resampling = _ANTIALIASED[self.interpolation]
    return np.asarray(resize_box(rgb, box, self.image_size, resampling))

  @property
  def shape(self) -> tuple[int, ...]:
    """Of what an image becomes."""
    return (self.image_size, self.image_size, 3)

  @property
  def resized_side(self) -> int:
    """The short side of the resized image, out of which crops are cut, in pixels."""
    return math.floor(self.image_size / self.central_fraction)

  @property
  def dtype(self) -> type[np.generic]:
    """Of the pixels: uint8, or float32 where they are not rounded."""
    return np.float32 if self.interpolation in _SAMPLED else np.uint8

  def resized(self, image: bytes | np.ndarray) -> np.ndarray:
    """Decodes an image and resizes all of it, so that crops can be cut out.

    Args:
      image: encoded, or uint8 `[H, W, C]`.

    Returns:
      RGB `[H', W', 3]` of `dtype`, whose short side is `resized_side`; the long one is, too, where
      the image is squashed.

    Raises:
      decode.DecodeError: the image is damaged.
    """
    rgb = decode.to_rgb(decode.open_image(image))
    short = self.resized_side
    if self.resize == "squash":
      return self._resize(rgb, short, short)
    return self.with_short_side(rgb, short)

  def with_short_side(self, rgb: Image.Image, short: int) -> np.ndarray:
    """Resizes all of an image, keeping its aspect.

    Args:
      rgb: the image.
      short: its short side afterwards, in pixels.

    Returns:
      RGB `[H', W', 3]` of `dtype`. Of a line more than a hundred times as long as it is wide it is
      the middle.
    """
    rgb = _shortened(rgb)
    long = int(short * max(rgb.size) / min(rgb.size))
    width, height = (short, long) if rgb.width <= rgb.height else (long, short)
    # Not the box alone, which Pillow rounds to float32 and so to other pixels.
    return self._resize(rgb, width, height)

  def _resize(self, rgb: Image.Image, width: int, height: int) -> np.ndarray:
    if self.interpolation in _SAMPLED:
      return sampling.resize(np.asarray(rgb), height, width, _SAMPLED[self.interpolation])
    return np.asarray(rgb.resize((width, height), _ANTIALIASED[self.interpolation]))

  def resize_pixels(self, pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes pixels `[H, W, 3]` of `dtype` to `[side, side, 3]`."""
    if self.interpolation in _SAMPLED:
      return sampling.resize(pixels, side, side, _SAMPLED[self.interpolation])
    return self._resize(Image.fromarray(pixels), side, side)


def _shortened(rgb: Image.Image) -> Image.Image:
  """Cuts the ends off a line of pixels, which would fill the memory once its width is resized."""
  longest = _LONGEST_ASPECT * min(rgb.size)
  left, top = max(rgb.width - longest, 0) // 2, max(rgb.height - longest, 0) // 2
  return rgb.crop((left, top, rgb.width - left, rgb.height - top)) if left or top else rgb


def central_box(fraction: float) -> Box:
  """The middle of an image, with that part of each of its sides."""
  margin = (1 - fraction) / 2
  return margin, margin, 1 - margin, 1 - margin


def box_anywhere(height: int, width: int, fraction: float, rng: np.random.Generator) -> Box:
  """Draws a patch with that part of each side, all places at whole pixels being as probable."""
  top, left = (
    rng.integers(math.floor(side - fraction * side + _ROUNDING), endpoint=True) / side
    for side in (height, width)
  )
  return left, top, left + fraction, top + fraction


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
  # A pixel of the result is made of those within two of it, and of as many where it is enlarged.
  margin = _REACH * max((bottom - top) / image_size, 1 / height)
  return resize_box(decode.to_rgb(image, shrink, bottom + margin), box, image_size, resampling)


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
