"""RandAugment: a few of fourteen transformations, drawn at random and all equally strong.

E. Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space",
arXiv 1909.13719, section 3. The strengths are those of torchvision's `transforms.RandAugment`, with
its 31 magnitudes; pixels are those of the nearest neighbour, and what comes from outside is black.
"""

# Ours, because torchvision's and timm's need PyTorch, which training does not import.

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from speedpaper_jax.data.augmentation import LARGEST_MAGNITUDE


class Transformation(NamedTuple):
  """One of the fourteen.

  Attributes:
    apply: takes an RGB image and a strength.
    largest: the strength at the largest magnitude; it grows from 0 in proportion.
    signed: whether it is as often negative.
  """

  apply: Callable[[Image.Image, float], Image.Image]
  largest: float = 0.0
  signed: bool = False


def rand_augment(
  rgb: Image.Image, count: int, magnitude: int, rng: np.random.Generator
) -> Image.Image:
  """Applies transformations that are drawn with replacement, one after the other.

  Args:
    rgb: of any size, which the result has too.
    count: how many, the paper's N.
    magnitude: of each, the paper's M, from 0 to 30.
    rng: the only source of randomness.
  """
  transformations = tuple(TRANSFORMATIONS.values())
  for _ in range(count):
    chosen = transformations[rng.integers(len(transformations))]
    strength = chosen.largest * magnitude / LARGEST_MAGNITUDE
    if chosen.signed and rng.random() < 0.5:
      strength = -strength
    rgb = chosen.apply(rgb, strength)
  return rgb


def _shear_x(rgb: Image.Image, strength: float) -> Image.Image:
  return _affine(rgb, (1, strength, 0, 0, 1, 0))


def _shear_y(rgb: Image.Image, strength: float) -> Image.Image:
  return _affine(rgb, (1, 0, 0, strength, 1, 0))


def _translate_x(rgb: Image.Image, strength: float) -> Image.Image:
  return _affine(rgb, (1, 0, -_pixels(strength, rgb.width), 0, 1, 0))


def _translate_y(rgb: Image.Image, strength: float) -> Image.Image:
  return _affine(rgb, (1, 0, 0, 0, 1, -_pixels(strength, rgb.height)))


def _pixels(strength: float, side: int) -> int:
  """The paper's images, of AutoAugment, had 331 pixels; of others the same part is meant."""
  return int(strength * side / 331)


def _affine(rgb: Image.Image, inverse: tuple[float, ...]) -> Image.Image:
  """Takes the pixel (x, y) from (a x + b y + c, d x + e y + f)."""
  return rgb.transform(rgb.size, Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)


def _rotate(rgb: Image.Image, degrees: float) -> Image.Image:
  return rgb.rotate(degrees, Image.Resampling.NEAREST)


def _posterize(rgb: Image.Image, lost_bits: float) -> Image.Image:
  return ImageOps.posterize(rgb, 8 - round(lost_bits))


def _solarize(rgb: Image.Image, depth: float) -> Image.Image:
  """Inverts the values from 255 − depth on."""
  # Pillow compares with fractions too, though its type says otherwise.
  return ImageOps.solarize(rgb, 255 - depth)  # type: ignore[arg-type]


# By torchvision's names.
TRANSFORMATIONS: Mapping[str, Transformation] = {
  "Identity": Transformation(lambda rgb, _: rgb),
  "ShearX": Transformation(_shear_x, 0.3, signed=True),
  "ShearY": Transformation(_shear_y, 0.3, signed=True),
  "TranslateX": Transformation(_translate_x, 150, signed=True),
  "TranslateY": Transformation(_translate_y, 150, signed=True),
  "Rotate": Transformation(_rotate, 30, signed=True),
  "Brightness": Transformation(
    lambda rgb, change: ImageEnhance.Brightness(rgb).enhance(1 + change), 0.9, signed=True
  ),
  "Color": Transformation(
    lambda rgb, change: ImageEnhance.Color(rgb).enhance(1 + change), 0.9, signed=True
  ),
  "Contrast": Transformation(
    lambda rgb, change: ImageEnhance.Contrast(rgb).enhance(1 + change), 0.9, signed=True
  ),
  "Sharpness": Transformation(
    lambda rgb, change: ImageEnhance.Sharpness(rgb).enhance(1 + change), 0.9, signed=True
  ),
  "Posterize": Transformation(_posterize, 4),
  "Solarize": Transformation(_solarize, 255),
  "AutoContrast": Transformation(lambda rgb, _: ImageOps.autocontrast(rgb)),
  "Equalize": Transformation(lambda rgb, _: ImageOps.equalize(rgb)),
}
