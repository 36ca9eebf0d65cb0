"""What training does to its images: the settings, without what is done, which needs Pillow."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from speedpaper_jax.data.crop_choices import SMALLEST_FRACTION
from speedpaper_jax.files import rules

CROPS = ("none", "central", "random", "shift", "area")
# Of RandAugment, on torchvision's scale.
LARGEST_MAGNITUDE = 30


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
