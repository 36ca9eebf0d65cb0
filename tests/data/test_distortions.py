"""Distortions of colours: Pillow's own enhancements, and the same on the host as on a device."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from speedpaper_jax.data import distortions
from speedpaper_jax.data.augment import augment, augment_but_for_distortions
from speedpaper_jax.data.augmentation import Augmentation

ENHANCEMENTS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
COMPILED = jax.jit(distortions.on_device)


def photograph(seed, height=24, width=24):
  """Some colours, more or less bright; with all levels and both ends of the scale."""
  generator = np.random.default_rng(seed)
  pixels = generator.normal(generator.uniform(30, 220, 3), 60, (height, width, 3))
  return pixels.clip(0, 255).astype(np.uint8)


def drawn(count, strength=1.0):
  """Distortions of so many images, every other one of which is mirrored."""
  numbers = [distortions.draw(strength, np.random.default_rng(seed)) for seed in range(count)]
  numbers = np.stack(numbers)
  numbers[::2, distortions.MIRRORED] = 1
  return numbers


def on_host(images, numbers):
  rgb = [
    distortions.on_host(Image.fromarray(image), of_image)
    for image, of_image in zip(images, numbers, strict=True)
  ]
  return np.stack([np.asarray(image) for image in rgb])


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_colours_are_those_of_pillow_s_enhancements(strength):
  images, numbers = np.stack([photograph(seed) for seed in range(300)]), drawn(300, strength)
  for image, of_image, found in zip(images, numbers, on_host(images, numbers), strict=True):
    rgb = Image.fromarray(image)
    for kind, factor in zip(of_image[:3], of_image[3:6], strict=True):
      rgb = ENHANCEMENTS[kind](rgb).enhance(factor / 2**15)
    expected = (np.asarray(rgb).astype(int) + of_image[6:9]).clip(0, 255)
    np.testing.assert_array_equal(found[:, ::-1] if of_image[9] else found, expected)


def test_a_device_makes_the_same_pixels():
  images, numbers = np.stack([photograph(seed) for seed in range(600)]), drawn(600)
  np.testing.assert_array_equal(COMPILED(images, numbers), on_host(images, numbers))


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_device_makes_the_same_of_one_colour(level):
  images, numbers = np.full((60, 5, 3, 3), level, np.uint8), drawn(60)
  np.testing.assert_array_equal(COMPILED(images, numbers), on_host(images, numbers))


def test_half_a_level_of_the_mean_is_rounded_up_on_both_sides():
  images = np.zeros((1, 2, 1, 3), np.uint8)
  images[0, 0] = 101  # the mean is 50.5
  numbers = distortions.none()
  numbers[3] = 2**14
  numbers[:3] = 1, 0, 2  # contrast first
  expected = [[[76] * 3], [[25] * 3]]  # half way to 51
  np.testing.assert_array_equal(on_host(images, numbers[None])[0], expected)
  np.testing.assert_array_equal(COMPILED(images, numbers[None])[0], expected)


def test_the_sum_of_the_largest_image_is_exact():
  """Of 4096 × 4096 white pixels: more than fits a signed integer of 32 bits."""
  largest = np.uint32(255 * 4096**2)
  assert distortions._mean(largest, 4096**2) == 255


def test_none_leaves_an_image_as_it_is():
  images = np.stack([photograph(0)])
  numbers = distortions.none()[None]
  np.testing.assert_array_equal(on_host(images, numbers), images)
  np.testing.assert_array_equal(COMPILED(images, numbers), images)


def test_numbers_are_within_the_strength():
  for strength in (0.2, 1.0):
    numbers = drawn(500, strength)
    np.testing.assert_array_equal(np.sort(numbers[:, :3]), np.tile(range(3), (500, 1)))
    factors = numbers[:, 3:6] / 2**15
    assert 1 - strength / 2 <= factors.min() < 1 - 0.48 * strength
    assert 1 + 0.48 * strength < factors.max() <= 1 + strength / 2
    assert len({tuple(order) for order in numbers[:, :3]}) == 6


def test_lighting_noise_has_the_deviations_of_imagenet_s_colours():
  """Krizhevsky et al. 2012, section 4.1: of p₁α₁λ₁ + p₂α₂λ₂ + p₃α₃λ₃ with deviations of 0.1."""
  components = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
  )
  scaled = components * (255 * 0.1 * np.array([0.2175, 0.0188, 0.0045]))
  expected = scaled @ scaled.T + np.eye(3) / 12  # of rounding
  np.testing.assert_allclose(np.cov(drawn(5000)[:, 6:9].T), expected, rtol=0.08, atol=0.05)


@pytest.mark.parametrize(
  "augmentation",
  [
    Augmentation("area", flip=True, photometric=1.0),
    Augmentation("area", flip=True, photometric=0.3, rand_augment=2),
    Augmentation("shift", shift=3, flip=True, photometric=1.0),
    Augmentation("random", crop_fraction=0.8, flip=True),
    Augmentation("none"),
  ],
  ids=lambda augmentation: augmentation.crop,
)
def test_what_a_device_completes_is_what_the_host_makes(augmentation):
  whole, parts = [], []
  for seed in range(30):
    image = photograph(seed, 40, 30)
    whole.append(augment(image, 24, augmentation, np.random.default_rng(seed)))
    rng = np.random.default_rng(seed)
    parts.append(augment_but_for_distortions(image, 24, augmentation, rng))
  images, numbers = map(np.stack, zip(*parts, strict=True))
  np.testing.assert_array_equal(COMPILED(images, numbers), whole)
