"""12 and 144 crops of an image, against a slow NumPy version of the paper's sentence."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.data.averaged_crops import AveragedCrops
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.square_crops import SquareCrops, sides

SIZE = 28


def make_image(height, width):
  pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
  return Image.fromarray(pixels)


def encoded(image):
  file = io.BytesIO()
  image.save(file, "PNG")
  return file.getvalue()


def resized(pixels, height, width, resampling):
  return np.array(Image.fromarray(pixels).resize((width, height), resampling))


def pixel_by_pixel(pixels, top, left, side):
  """A square of an image, each pixel for itself."""
  square = np.empty((side, side, 3), np.uint8)
  for row, column, channel in itertools.product(range(side), range(side), range(3)):
    square[row, column, channel] = pixels[top + row, left + column, channel]
  return square


def slowly(image, scales, places, size, resampling):
  """The crops of the paper's sentence, in the order of its words: scales, squares, six, mirrors.

  Args:
    image: the picture.
    scales: its short sides.
    places: of the squares along the long side, from 0 to 1.
    size: of the crops.
    resampling: Pillow's.
  """
  found = []
  for scale in scales:
    short, long = sorted(image.size)
    longer = int(scale * long / short)
    width, height = (scale, longer) if image.width <= image.height else (longer, scale)
    scaled = resized(np.array(image), height, width, resampling)
    for place in places:
      down, right = (round(place * (side - scale)) for side in (height, width))
      square = pixel_by_pixel(scaled, down, right, scale)
      far = scale - size
      corners = [(0, 0), (0, far), (far, 0), (far, far), (round(far / 2), round(far / 2))]
      six = [pixel_by_pixel(square, top, left, size) for top, left in corners]
      six.append(resized(square, size, size, resampling))
      found += six
      found += [np.flip(crop, axis=1) for crop in six]
  return np.array(found)


@pytest.mark.parametrize(("height", "width"), [(50, 73), (81, 40), (64, 64), (31, 30)])
@pytest.mark.parametrize(("interpolation", "resampling"), [("bilinear", 2), ("bicubic", 3)])
@pytest.mark.parametrize("scales", ["proportional", "grown"])
def test_144_crops_are_those_of_the_definition(height, width, interpolation, resampling, scales):
  image = make_image(height, width)
  crops = SquareCrops(EvaluationCrop(SIZE, interpolation=interpolation), 144, scales)
  expected = slowly(image, sides(SIZE, scales), (0, 0.5, 1), SIZE, resampling)
  assert expected.shape == (144, SIZE, SIZE, 3)
  sheets = crops(encoded(image))
  assert (sheets.shape, sheets.dtype) == (crops.shape, crops.dtype)
  np.testing.assert_array_equal(crops.windows.cut(sheets), expected)


@pytest.mark.parametrize(("height", "width"), [(50, 73), (81, 40)])
def test_12_crops_are_those_of_the_central_square_of_the_smallest_scale(height, width):
  image = make_image(height, width)
  crops = SquareCrops(EvaluationCrop(SIZE), 12)
  expected = slowly(image, (32,), (0.5,), SIZE, 2)
  np.testing.assert_array_equal(crops.windows.cut(crops(encoded(image))), expected)
  of_all = SquareCrops(EvaluationCrop(SIZE), 144)
  np.testing.assert_array_equal(of_all.windows.cut(of_all(encoded(image)))[12:24], expected)


def test_crops_of_each_kind_are_as_many_as_the_name_says():
  for number in (12, 144):
    windows = SquareCrops(EvaluationCrop(SIZE), number).windows
    assert windows.crops == number
    assert windows.crops_of_a_sheet == 12


def test_the_papers_scales():
  assert sides(224, "proportional") == sides(224, "grown") == (256, 288, 320, 352)


def test_both_readings_of_the_scales_at_299_pixels():
  assert sides(299, "proportional") == (342, 384, 427, 470)
  assert sides(299, "grown") == (320, 352, 384, 416)


@pytest.mark.parametrize("size", [32, 75, 96, 160, 224, 299, 331, 512])
@pytest.mark.parametrize("scales", ["proportional", "grown"])
def test_no_scale_is_smaller_than_the_crop(size, scales):
  assert min(sides(size, scales)) >= size


def test_pixels_that_are_not_rounded_stay_so():
  crops = SquareCrops(EvaluationCrop(SIZE, interpolation="bilinear_pytorch"), 12)
  sheets = crops(encoded(make_image(50, 73)))
  assert sheets.dtype == np.float32
  assert np.any(sheets != np.round(sheets))


def test_a_line_of_pixels():
  crops = SquareCrops(EvaluationCrop(SIZE), 144)
  assert crops(encoded(make_image(1, 3000))).shape == crops.shape


@pytest.mark.parametrize(
  ("crops", "words"),
  [
    (AveragedCrops(1), "one crop"),
    (AveragedCrops(10), "10 crops"),
    (AveragedCrops(12), "12 crops, scale 342 (proportional)"),
    (AveragedCrops(144, "grown"), "144 crops, scales 320, 352, 384, 416 (grown)"),
  ],
)
def test_in_words(crops, words):
  assert crops.in_words(299) == words
