"""Ten crops of an image."""

import io

import numpy as np
import pytest
from packages import require
from PIL import Image

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.ten_crops import TenCrops
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import references


def make_image(height, width):
  pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
  return Image.fromarray(pixels)


def cut(crops, image):
  return crops.windows.cut(crops(encoded(image)))


def encoded(image):
  file = io.BytesIO()
  image.save(file, "PNG")
  return file.getvalue()


@pytest.mark.parametrize(("height", "width"), [(50, 73), (81, 40), (64, 64), (31, 30)])
@pytest.mark.parametrize("central_fraction", [0.875, 1.0])
def test_they_are_those_of_torchvision(height, width, central_fraction):
  require("torchvision")
  transforms = references.import_package("torchvision.transforms")
  image, size = make_image(height, width), 28
  resize = transforms.Resize(int(size / central_fraction))
  expected = transforms.TenCrop(size)(resize(image))
  crops = cut(TenCrops(EvaluationCrop(size, central_fraction, "short_side")), image)
  assert crops.shape == (10, size, size, 3)
  # torchvision's left crops of the mirrored image are the mirror images of the right ones.
  in_our_order = [0, 1, 2, 3, 4, 6, 5, 8, 7, 9]
  np.testing.assert_array_equal(crops, [np.asarray(expected[place]) for place in in_our_order])


def test_the_fifth_is_the_single_crop_and_the_others_come_mirrored():
  crop = EvaluationCrop(21, 0.8, "short_side", "bicubic")
  image = make_image(44, 61)
  crops = cut(TenCrops(crop), image)
  np.testing.assert_array_equal(crops[4], crop(encoded(image)))
  np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])


def test_corners_of_a_squashed_image():
  image = make_image(40, 80)
  crops = cut(TenCrops(EvaluationCrop(32, 0.8)), image)
  whole = np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR))
  np.testing.assert_array_equal(crops[0], whole[:32, :32])
  np.testing.assert_array_equal(crops[3], whole[8:, 8:])
  np.testing.assert_array_equal(crops[4], whole[4:36, 4:36])


@pytest.mark.parametrize("interpolation", ["bilinear", "bilinear_pytorch"])
def test_shape_and_dtype_are_known_before(interpolation):
  crops = TenCrops(EvaluationCrop(16, 0.5, "short_side", interpolation))
  result = crops(encoded(make_image(20, 30)))
  assert (result.shape, result.dtype) == (crops.shape, crops.dtype)


def test_the_whole_squashed_image_has_no_corners():
  with pytest.raises(UserError, match=r"Ten crops of an image .* are one; set config.data.eval_c"):
    TenCrops(EvaluationCrop(32))
