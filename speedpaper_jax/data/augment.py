"""What training does to an image before the network sees it, one example at a time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from speedpaper_jax.data import crop, decode, distortions
from speedpaper_jax.data.crop import SMALLEST_FRACTION
from speedpaper_jax.data.rand_augment import LARGEST_MAGNITUDE, rand_augment
from speedpaper_jax.files import rules

CROPS = ("none", "central", "random", "shift", "area")

# "Going Deeper with Convolutions", section 6: bilinear, area, nearest neighbour or cubic.
_INTERPOLATIONS = (
  Image.Resampling.BILINEAR,
  Image.Resampling.BOX,
  Image.Resampling.NEAREST,
  Image.Resampling.BICUBIC,
)


def _field(default: Any, rule: rules.Rule) -> Any:
  return dataclasses.field(default=default, metadata={"rule": rule})


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """How training images are distorted.

  Attributes:
    crop: "none" resizes the whole image; "central" resizes its middle, as evaluation does where it
      squashes images; "random" resizes a patch of that size from anywhere in the image, at whole
      pixels: one that has the result's size is cut out as it is; "shift" resizes the whole image
      and moves it by up to `shift` pixels and fills with black, which is the background of digits
      and the usual zero padding of CIFAR; "area" is the random patch of "Going Deeper with
      Convolutions", section 6, resized by one of its four interpolations at random.
    shift: the farthest move in pixels of the resized image, along either axis.
    area_range: least and greatest area of the patch, as fractions of the image.
    flip: mirror half of the images left to right.
    photometric: strength of the photometric distortion; 0 is none and 1 is the original's:
      brightness, contrast and saturation in random order, each by a factor in [0.5, 1.5], and
      lighting noise. At strength s the factors lie in [1 − s/2, 1 + s/2], and the noise is s times
      as large.
    rand_augment: how many transformations of RandAugment's, the paper's N, are drawn for each image
      after it is resized and before the photometric distortion and the shift; 0 is none.
    rand_augment_magnitude: of these, the paper's M, on torchvision's scale from 0 to 30.
    crop_fraction: of "central" and "random": each side of the patch, as a part of the image's.
  """

  crop: str = _field("none", rules.one_of(CROPS))
  shift: int = _field(0, rules.whole(0, 4096))
  area_range: tuple[float, float] = _field((0.08, 1.0), rules.range_of_fractions())
  flip: bool = _field(False, rules.SWITCH)
  photometric: float = _field(0.0, rules.FRACTION)
  rand_augment: int = _field(0, rules.whole(0, 100))
  rand_augment_magnitude: int = _field(9, rules.whole(0, LARGEST_MAGNITUDE))
  crop_fraction: float = _field(1.0, rules.between(SMALLEST_FRACTION, 1))

  def __post_init__(self) -> None:
    for name, (_, rule) in FIELDS.items():
      rule.check(name, getattr(self, name))

  @property
  def ends_with_distortions(self) -> bool:
    """Whether colours are distorted, and nothing but the mirror image comes after that."""
    return self.photometric > 0 and self.crop != "shift"


# Field → its default, and what it may be.
FIELDS: Mapping[str, tuple[Any, rules.Rule]] = {
  field.name: (field.default, field.metadata["rule"]) for field in dataclasses.fields(Augmentation)
}


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
