"""RandAugment: each transformation beside torchvision's, and which of them are drawn."""

import collections

import numpy as np
import pytest
from packages import require
from PIL import Image

from speedpaper_jax.data import rand_augment as module
from speedpaper_jax.data.rand_augment import TRANSFORMATIONS, rand_augment
from speedpaper_jax.interop import references

NEAREST = Image.Resampling.NEAREST
# Wide and high, and of 331 pixels, where the largest translation is a whole number.
SIZES = [(53, 37), (24, 331)]
# torchvision's strengths are float32; equal ones are a unit in the last place away from ours.
ROUNDED = ("ShearX", "ShearY", "Brightness", "Color", "Contrast", "Sharpness")


def photograph(width, height):
  """A slope with noise on it, which leaves some values out."""
  y, x = np.mgrid[0:height, 0:width]
  slopes = np.stack([x * 200 / width, y * 180 / height, (x + y) % 150], axis=-1) + 20
  noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
  return Image.fromarray((slopes + noise).clip(7, 240).astype(np.uint8))


@pytest.fixture(scope="module")
def torchvision():
  require("torchvision")
  return references.import_package("torchvision.transforms.autoaugment")


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("magnitude", [0, 1, 2, 9, 15, 22, 30])
def test_each_gives_the_pixels_of_torchvisions(torchvision, name, size, magnitude):
  ours = TRANSFORMATIONS[name]
  space = torchvision.RandAugment()._augmentation_space(31, size[::-1])
  strengths, signed = space[name]
  assert ours.signed == signed
  strength = ours.largest * magnitude / 30
  theirs = float(strengths[magnitude]) if strengths.ndim else 0.0
  if name in ROUNDED:
    assert theirs == pytest.approx(strength, rel=1e-6)
    theirs = strength
  image = photograph(*size)
  for sign in (1, -1) if signed else (1,):
    expected = torchvision._apply_op(image, name, sign * theirs, NEAREST, None)
    result = ours.apply(image, sign * strength)
    assert (result.mode, result.size) == ("RGB", size)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_they_are_torchvisions(torchvision):
  assert {*TRANSFORMATIONS} == {*torchvision.RandAugment()._augmentation_space(31, (8, 8))}


@pytest.mark.parametrize("name", [*TRANSFORMATIONS])
def test_each_but_the_identity_changes_the_image(name):
  """So that equal pixels above say something."""
  image, transformation = photograph(53, 37), TRANSFORMATIONS[name]
  changed = transformation.apply(image, transformation.largest) != image
  assert changed == (name != "Identity")


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_what_comes_from_outside_is_black(name):
  white = Image.new("RGB", (53, 37), (255, 255, 255))
  pixels = np.asarray(TRANSFORMATIONS[name].apply(white, TRANSFORMATIONS[name].largest))
  assert set(np.unique(pixels)) == {0, 255}


@pytest.fixture
def applied(monkeypatch):
  """Names and strengths of what is drawn, in the place of what it does."""
  applied = []

  def recorder(name):
    def record(rgb, strength):
      applied.append((name, strength))
      return rgb

    return record

  recorders = {name: each._replace(apply=recorder(name)) for name, each in TRANSFORMATIONS.items()}
  monkeypatch.setattr(module, "TRANSFORMATIONS", recorders)
  return applied


IMAGE = Image.new("RGB", (4, 4))


def test_each_is_as_likely_as_another_and_may_come_twice(applied):
  rng = np.random.default_rng(0)
  repeated = 0
  for _ in range(4200):
    rand_augment(IMAGE, 2, 9, rng)
    repeated += applied[-1][0] == applied[-2][0]
  counts = collections.Counter(name for name, _ in applied)
  assert len(counts) == 14
  chi_squared = sum((count - 600) ** 2 / 600 for count in counts.values())
  assert chi_squared < 34.5  # of 13 degrees of freedom, exceeded once in a thousand
  assert 240 < repeated < 360  # 300 ± 3.6 standard deviations


def test_the_strength_is_that_of_the_magnitude_half_of_the_times_negative(applied):
  rand_augment(IMAGE, 14 * 400, 10, np.random.default_rng(1))
  for name, transformation in TRANSFORMATIONS.items():
    strengths = [strength for drawn, strength in applied if drawn == name]
    assert {abs(strength) for strength in strengths} == {transformation.largest * 10 / 30}
    negative = sum(strength < 0 for strength in strengths) / len(strengths)
    assert (0.4 < negative < 0.6) if transformation.signed else negative == 0


def test_the_generator_alone_decides():
  image = photograph(53, 37)
  one, again = (
    [rand_augment(image, 2, 9, np.random.default_rng(seed)).tobytes() for seed in range(40)]
    for _ in range(2)
  )
  assert one == again
  assert len(set(one)) > 30


def test_none_draws_nothing():
  rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
  image = photograph(53, 37)
  assert rand_augment(image, 0, 30, rng) == image
  assert rng.bit_generator.state == untouched.bit_generator.state
