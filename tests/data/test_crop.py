"""The patch of training and the central crop of evaluation."""

import io

import numpy as np
import pytest
from packages import require
from PIL import Image

from speedpaper_jax.data.crop import INTERPOLATIONS, WHOLE, EvaluationCrop, crop_encoded, random_box
from speedpaper_jax.data.decode import open_image
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import references

BILINEAR = Image.Resampling.BILINEAR


def photograph(height, width):
  """Large shapes with fine noise on them."""
  generator = np.random.default_rng(height * 1000 + width)
  shapes = generator.integers(0, 256, (max(height // 9, 2), max(width // 9, 2), 3), np.uint8)
  resized = Image.fromarray(shapes).resize((width, height), Image.Resampling.BICUBIC)
  noise = generator.normal(0, 8, (height, width, 3))
  return (np.asarray(resized) + noise).clip(0, 255).astype(np.uint8)


def boxes(height, width, area_range, count=2000):
  generator = np.random.default_rng(0)
  drawn = [random_box(height, width, area_range, generator) for _ in range(count)]
  left, top, right, bottom = np.array(drawn).T
  return left, top, right, bottom


@pytest.mark.parametrize(("height", "width"), [(300, 300), (200, 400), (500, 375), (30, 20)])
def test_the_patch_lies_inside_and_keeps_area_and_aspect(height, width):
  left, top, right, bottom = boxes(height, width, (0.08, 1.0))
  assert min(left.min(), top.min()) >= 0
  assert max(right.max(), bottom.max()) <= 1 + 1e-12
  aspect = (right - left) * width / ((bottom - top) * height)
  area = (right - left) * (bottom - top)
  assert (aspect > 3 / 4 - 1e-9).all()
  assert (aspect < 4 / 3 + 1e-9).all()
  assert (area > 0.08 - 1e-9).all()
  assert (area < 1 + 1e-9).all()


@pytest.mark.parametrize("resize", ["squash", "short_side"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_the_middle_28_of_32_pixels_are_not_resampled(resize, interpolation):
  """So the images of CIFAR-10 are evaluated on as they are."""
  image = photograph(32, 32)
  found = EvaluationCrop(28, 28 / 32, resize, interpolation)(image)
  np.testing.assert_array_equal(found, image[2:30, 2:30])


def test_area_is_uniform_and_aspect_log_uniform_where_every_patch_fits():
  left, top, right, bottom = boxes(300, 300, (0.08, 0.5))
  areas = (right - left) * (bottom - top)
  log_aspects = np.log((right - left) / (bottom - top))
  np.testing.assert_allclose(
    np.quantile(areas, [0, 0.25, 0.5, 0.75, 1]), np.linspace(0.08, 0.5, 5), atol=0.02
  )
  expected = np.linspace(np.log(3 / 4), np.log(4 / 3), 5)
  np.testing.assert_allclose(np.quantile(log_aspects, [0, 0.25, 0.5, 0.75, 1]), expected, atol=0.03)


def test_the_patch_reaches_every_part_of_the_image():
  left, top, right, bottom = boxes(300, 300, (0.08, 0.1))
  assert max(left.min(), top.min()) < 0.02
  assert min(right.max(), bottom.max()) > 0.98
  np.testing.assert_allclose([np.mean(left + right), np.mean(top + bottom)], 1, atol=0.03)


def test_an_image_too_long_for_any_patch_gives_its_largest_central_one():
  left, top, right, bottom = random_box(100, 1000, (0.9, 1.0), np.random.default_rng(0))
  np.testing.assert_allclose((left, top, right, bottom), (13 / 30, 0, 17 / 30, 1))


def test_a_box_cuts_out_its_pixels():
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  cut = crop_encoded(open_image(pixels), (0.25, 0.5, 0.75, 1.0), 4, BILINEAR)
  np.testing.assert_array_equal(np.asarray(cut), pixels[4:8, 2:6])


def test_a_small_box_of_a_large_jpeg_keeps_its_detail():
  """One patch in 16 of the picture: decoding all of it at the result's size would blur it."""
  tiles = np.indices((512, 512)).sum(axis=0) // 8 % 2 * 255
  encoded = io.BytesIO()
  Image.fromarray(tiles.astype(np.uint8)).save(encoded, "JPEG", quality=95)
  cut = crop_encoded(open_image(encoded.getvalue()), (0.25, 0.25, 0.5, 0.5), 128, BILINEAR)
  np.testing.assert_allclose(np.asarray(cut)[..., 0], tiles[128:256, 128:256], atol=20)


def test_the_whole_image_at_its_own_size_is_unchanged():
  pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
  cut = crop_encoded(open_image(pixels), WHOLE, 6, BILINEAR)
  np.testing.assert_array_equal(np.asarray(cut), pixels)
  np.testing.assert_array_equal(EvaluationCrop(6, 1.0)(pixels), pixels)


def test_the_central_crop_keeps_the_middle_of_both_sides():
  pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
  np.testing.assert_array_equal(EvaluationCrop(28, 0.875)(pixels), pixels[2:30, 2:30])


def test_the_central_crop_distorts_the_aspect():
  tall = np.zeros((64, 16, 3), np.uint8)
  tall[:, 8:] = 255
  cropped = EvaluationCrop(16, 0.875)(tall)
  assert cropped.shape == (16, 16, 3)
  assert (cropped[:, :7] == 0).all()
  assert (cropped[:, 9:] == 255).all()


def test_shrinking_is_antialiased():
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 255
  assert np.abs(EvaluationCrop(16, 1.0)(stripes)[:, 1:-1].astype(int) - 128).max() <= 16


class TestShortSide:
  """The protocol of torchvision and timm."""

  @pytest.mark.parametrize(
    ("image_size", "central_fraction", "interpolation"),
    [
      (224, 0.875, "bilinear"),
      (299, 0.875, "bicubic"),
      (299, 0.8975, "bicubic"),
      (75, 1, "bilinear"),
    ],
  )
  @pytest.mark.parametrize(
    ("height", "width"), [(375, 501), (333, 250), (256, 256), (40, 33), (17, 120), (700, 51)]
  )
  def test_pixels_are_those_of_timm(
    self, height, width, image_size, central_fraction, interpolation
  ):
    require("timm")
    data = references.import_package("timm").data
    image = photograph(height, width)
    transform = data.create_transform(
      image_size, interpolation=interpolation, crop_pct=central_fraction, normalize=False
    )
    expected = transform(Image.fromarray(image)).permute(1, 2, 0).numpy()
    crop = EvaluationCrop(image_size, central_fraction, "short_side", interpolation)
    np.testing.assert_array_equal(crop(image), expected)

  @pytest.mark.parametrize(("height", "width"), [(64, 48), (48, 64)])
  def test_the_middle_of_the_long_side_is_kept(self, height, width):
    image = photograph(height, width)
    cropped = EvaluationCrop(42, 0.875, "short_side")(image)  # 42 / 0.875 is the short side
    top, left = (height - 42) // 2, (width - 42) // 2
    np.testing.assert_array_equal(cropped, image[top : top + 42, left : left + 42])

  def test_a_line_of_pixels_does_not_fill_the_memory(self):
    line = np.full((1, 60_000, 3), 200, np.uint8)
    assert (EvaluationCrop(299, 0.875, "short_side", "bicubic")(line) == 200).all()


@pytest.mark.parametrize(
  ("field", "value", "nearest"),
  [("resize", "short", "short_side"), ("interpolation", "bicubc", "bicubic")],
)
def test_an_unknown_choice_is_refused_with_the_nearest_one(field, value, nearest):
  with pytest.raises(UserError, match=rf"{field}='{value}' is unknown. Did you mean '{nearest}'\?"):
    EvaluationCrop(32, **{field: value})
