"""What training does to one image."""

import collections

import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.data.augment import augment
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.rand_augment import rand_augment
from speedpaper_jax.errors import UserError

NOISE = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)


def augmented(image, size, augmentation, count):
  return [augment(image, size, augmentation, np.random.default_rng(seed)) for seed in range(count)]


def test_by_default_the_image_is_only_resized():
  np.testing.assert_array_equal(augment(NOISE, 8, Augmentation(), np.random.default_rng(0)), NOISE)
  grown = augment(NOISE, 32, Augmentation(), np.random.default_rng(0))
  assert grown.shape == (32, 32, 3)


def test_the_generator_is_the_only_source_of_randomness():
  every = Augmentation(crop="area", flip=True, photometric=1.0, rand_augment=2)
  one, again = augmented(NOISE, 16, every, 5), augmented(NOISE, 16, every, 5)
  np.testing.assert_array_equal(one, again)
  assert len({image.tobytes() for image in one}) == 5


def test_a_shift_moves_by_every_distance_up_to_its_limit_and_fills_with_black():
  moves = set()
  padded = np.pad(NOISE, ((2, 2), (2, 2), (0, 0)))
  for image in augmented(NOISE, 8, Augmentation(crop="shift", shift=2), 300):
    matches = [
      (2 - top, 2 - left)
      for top in range(5)
      for left in range(5)
      if (padded[top : top + 8, left : left + 8] == image).all()
    ]
    assert len(matches) == 1
    moves.add(matches[0])
  assert len(moves) == 25


def test_a_shift_of_zero_moves_nothing():
  (image,) = augmented(NOISE, 8, Augmentation(crop="shift", shift=0), 1)
  np.testing.assert_array_equal(image, NOISE)


# Of CIFAR-10 the paper of the small Inception takes 28 of 32 pixels.
SIZES = pytest.mark.parametrize(("size", "part"), [(32, 28), (30, 28), (9, 8), (8, 8)])


def noise(height, width):
  return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


@SIZES
def test_a_central_crop_that_has_the_result_s_size_is_cut_out_as_it_is(size, part):
  image, augmentation = noise(size, size), Augmentation("central", crop_fraction=part / size)
  first = (size - part) // 2
  if (size - part) % 2 == 0:
    expected = image[first : first + part, first : first + part]
    np.testing.assert_array_equal(augmented(image, part, augmentation, 1)[0], expected)
  evaluated = EvaluationCrop(part, part / size)(image)
  np.testing.assert_array_equal(augmented(image, part, augmentation, 1)[0], evaluated)


@SIZES
def test_a_random_crop_is_at_every_place_and_cut_out_as_it_is(size, part):
  image, last = noise(size, size), size - part
  places = {
    image[top : top + part, left : left + part].tobytes(): (top, left)
    for top in range(last + 1)
    for left in range(last + 1)
  }
  assert len(places) == (last + 1) ** 2
  crops = augmented(image, part, Augmentation("random", crop_fraction=part / size), 300)
  found = collections.Counter(places[crop.tobytes()] for crop in crops)
  assert len(found) == len(places)
  assert max(found.values()) < 4 * 300 / len(places)


def test_a_crop_of_another_size_is_resized():
  image = noise(32, 48)
  for crop in ("central", "random"):
    (cropped,) = augmented(image, 8, Augmentation(crop, crop_fraction=0.5), 1)
    assert cropped.shape == (8, 8, 3)
  (whole,) = augmented(image, 8, Augmentation("random"), 1)
  np.testing.assert_array_equal(whole, augmented(image, 8, Augmentation(), 1)[0])


def test_half_of_the_images_are_mirrored():
  images = augmented(NOISE, 8, Augmentation(flip=True), 200)
  mirrored = sum((image == NOISE[:, ::-1]).all() for image in images)
  unchanged = sum((image == NOISE).all() for image in images)
  assert mirrored + unchanged == 200
  assert 70 < mirrored < 130


def test_an_area_crop_of_the_whole_area_shows_nearly_everything():
  """Area 0.9 to 1 of a square: the corners of the image stay within reach of the patch."""
  y, x = np.mgrid[0:64, 0:64]
  image = np.stack([4 * x, 4 * y, 0 * x], axis=-1).astype(np.uint8)
  for cropped in augmented(image, 64, Augmentation(crop="area", area_range=(0.9, 1.0)), 50):
    assert cropped[..., :2].max() >= 200
    assert cropped[..., :2].min() <= 55


def test_an_area_crop_stays_within_the_image_and_magnifies():
  y, x = np.mgrid[0:64, 0:64]
  image = np.stack([4 * x, 4 * y, 0 * x], axis=-1).astype(np.uint8)
  for cropped in augmented(image, 32, Augmentation(crop="area", area_range=(0.1, 0.1)), 50):
    spread = np.ptp(cropped[..., :2].astype(int), axis=(0, 1)) / 4 / 64
    assert 0.06 < np.prod(spread) < 0.13


def test_an_area_crop_draws_its_interpolation():
  """Shrunk, a chessboard stays black and white under the nearest neighbour alone: one in four."""
  chessboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
  crops = augmented(chessboard, 8, Augmentation(crop="area", area_range=(0.5, 1.0)), 200)
  nearest = sum(set(np.unique(cropped)) <= {0, 255} for cropped in crops)
  assert 30 < nearest < 70


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_photometric_distortion_stays_within_its_strength(strength):
  grey = np.full((4, 4, 3), 100, np.uint8)
  images = np.array(augmented(grey, 4, Augmentation(photometric=strength), 200), int)
  lighting = 12 * strength  # three and a half standard deviations
  assert images.min() >= 100 * (1 - strength / 2) - lighting
  assert images.max() <= 100 * (1 + strength / 2) + lighting
  assert np.ptp(images) > 100 * strength * 0.8


def test_photometric_distortion_changes_brightness_contrast_and_saturation():
  images = augmented(NOISE, 8, Augmentation(photometric=1.0), 30)
  means, deviations = np.array([(image.mean(), image.std()) for image in images]).T
  saturations = np.array([np.ptp(image.astype(int), axis=-1).mean() for image in images])
  assert np.std(means) > 5
  assert np.std(deviations / means) > 0.05
  assert np.std(saturations / deviations) > 0.05


def test_lighting_noise_tints_the_whole_image():
  """Brightness, contrast and saturation leave grey grey; the second component is red to blue."""
  grey = np.full((4, 4, 3), 100, np.uint8)
  images = np.array(augmented(grey, 4, Augmentation(photometric=1.0), 400), int)
  assert (images == images[:, :1, :1]).all()
  red_to_blue = images[:, 0, 0, 0] - images[:, 0, 0, 2]
  expected = 0.1 * 255 * 0.0188 * (0.7192 + 0.6948)
  assert 0.8 * expected < np.std(red_to_blue) < 1.5 * expected  # and the rounding


def test_without_rand_augment_the_draws_are_as_they_were():
  """So that a run that began before there was such a field goes on to the same bits."""
  augmentation = Augmentation("shift", 2, flip=True, photometric=1.0, rand_augment_magnitude=30)
  drawn, expected = np.random.default_rng(3), np.random.default_rng(3)
  augment(NOISE, 16, augmentation, drawn)
  expected.permutation(3)  # brightness, contrast and saturation,
  expected.random(3)  # their factors,
  expected.normal(size=3)  # lighting,
  expected.integers(-2, 2, size=2, endpoint=True)  # the shift,
  expected.random()  # and the flip
  assert drawn.bit_generator.state == expected.bit_generator.state


def test_rand_augment_comes_between_the_crop_and_the_photometric_distortion():
  augmentation = Augmentation("area", rand_augment=3, rand_augment_magnitude=20, photometric=1.0)
  drawn, expected = np.random.default_rng(5), np.random.default_rng(5)
  image = augment(NOISE, 16, augmentation, drawn)
  cropped = augment(NOISE, 16, Augmentation("area"), expected)
  transformed = rand_augment(Image.fromarray(cropped), 3, 20, expected)
  distorted = augment(np.asarray(transformed), 16, Augmentation(photometric=1.0), expected)
  np.testing.assert_array_equal(image, distorted)
  assert drawn.bit_generator.state == expected.bit_generator.state


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"crop": "shfit"}, "crop='shfit' is unknown. Did you mean 'shift'?"),
    ({"shift": -1}, "shift is -1; it must be a whole number from 0"),
    ({"area_range": (0.0, 1.0)}, "it must be two fractions, the smaller first"),
    ({"area_range": (0.5, 0.2)}, "it must be two fractions, the smaller first"),
    ({"area_range": (0.5, 1.5)}, "it must be two fractions, the smaller first"),
    ({"crop_fraction": 0.05}, "crop_fraction is 0.05; it must be a number from 0.1 to 1"),
    ({"photometric": 2.0}, "photometric is 2.0; it must be a number from 0 to 1"),
    ({"rand_augment": 2.0}, "rand_augment is 2.0; it must be a whole number from 0 to 100"),
    ({"rand_augment_magnitude": 31}, "magnitude is 31; it must be a whole number from 0 to 30"),
  ],
)
def test_a_bad_value_is_told_in_a_sentence(fields, message):
  with pytest.raises(UserError, match=message.replace("?", r"\?")):
    Augmentation(**fields)
