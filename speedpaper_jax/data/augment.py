"""What training does to an image before the network sees it, one example at a time."""

import numpy as np
from PIL import Image

from speedpaper_jax.data import crop, decode, distortions
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.rand_augment import rand_augment

# "Going Deeper with Convolutions", section 6: bilinear, area, nearest neighbour or cubic.
_INTERPOLATIONS = (
  Image.Resampling.BILINEAR,
  Image.Resampling.BOX,
  Image.Resampling.NEAREST,
  Image.Resampling.BICUBIC,
)


def augment(
  image: bytes | np.ndarray,
  image_size: int,
  augmentation: Augmentation,
  rng: np.random.Generator,
) -> np.ndarray:
  """Decodes and distorts one training image.

  Args:
    image: encoded, or uint8 `[H, W, C]`.
    image_size: side of the result, in pixels.
    augmentation: what to do.
    rng: the only source of randomness.

  Returns:
    RGB, uint8 `[image_size, image_size, 3]`.

  Raises:
    decode.DecodeError: the image is damaged.
  """
  return np.asarray(distortions.on_host(*_crop_and_draw(image, image_size, augmentation, rng)))


def augment_but_for_distortions(
  image: bytes | np.ndarray,
  image_size: int,
  augmentation: Augmentation,
  rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
  """As `augment`, up to what a device can do.

  Returns:
    RGB, uint8 `[image_size, image_size, 3]`, of which `distortions.on_device` makes the pixels of
    `augment` with these numbers, int32 `[distortions.NUMBERS]`.

  Raises:
    decode.DecodeError: the image is damaged.
  """
  rgb, numbers = _crop_and_draw(image, image_size, augmentation, rng)
  return np.asarray(rgb), numbers


def _crop_and_draw(
  image: bytes | np.ndarray,
  image_size: int,
  augmentation: Augmentation,
  rng: np.random.Generator,
) -> tuple[Image.Image, np.ndarray]:
  """The cropped image, and the distortions that come last."""
  opened = decode.open_image(image)
  box, resampling = crop.WHOLE, Image.Resampling.BILINEAR
  if augmentation.crop == "central":
    box = crop.central_box(augmentation.crop_fraction)
  elif augmentation.crop == "random":
    height, width = decode.upright_size(opened)
    box = crop.box_anywhere(height, width, augmentation.crop_fraction, rng)
  elif augmentation.crop == "area":
    height, width = decode.upright_size(opened)
    box = crop.random_box(height, width, augmentation.area_range, rng)
    resampling = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
  rgb = crop.crop_encoded(opened, box, image_size, resampling)
  if augmentation.rand_augment:
    rgb = rand_augment(rgb, augmentation.rand_augment, augmentation.rand_augment_magnitude, rng)
  numbers = distortions.none()
  if augmentation.photometric:
    numbers = distortions.draw(augmentation.photometric, rng)
  if augmentation.crop == "shift":
    rgb, numbers = distortions.on_host(rgb, numbers), distortions.none()
    rgb = _shift(rgb, augmentation.shift, rng)
  numbers[distortions.MIRRORED] = augmentation.flip and rng.random() < 0.5
  return rgb, numbers


def _shift(rgb: Image.Image, farthest: int, rng: np.random.Generator) -> Image.Image:
  down, right = rng.integers(-farthest, farthest, size=2, endpoint=True)
  shifted = Image.new("RGB", rgb.size)
  shifted.paste(rgb, (int(right), int(down)))
  return shifted
