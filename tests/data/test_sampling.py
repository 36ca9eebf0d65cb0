"""Resizing without antialiasing, as PyTorch and TensorFlow 1 do it."""

import numpy as np
import pytest

from speedpaper_jax.data import sampling
from speedpaper_jax.data.crop import EvaluationCrop


def photograph(height, width):
  return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
  ("height", "width"), [(128, 128), (333, 250), (32, 32), (299, 299), (7, 900), (1, 1)]
)
def test_pytorchs(height, width):
  torch = pytest.importorskip("torch")
  image = photograph(height, width)
  tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
  expected = torch.nn.functional.interpolate(
    tensor, (299, 299), mode="bilinear", align_corners=False
  )
  ours = sampling.resize(image, 299, 299)
  assert ours.dtype == np.float32
  np.testing.assert_allclose(ours, expected[0].permute(1, 2, 0), rtol=0, atol=2e-3)


def row(*values):
  return np.repeat(np.array(values, np.uint8)[None, :, None], 3, axis=2)


def test_where_the_pixels_lie():
  """Of two pixels that become four: around their centres, or from their left edges on."""
  centred = sampling.resize(row(0, 100), 1, 4)
  assert centred[0, :, 0].tolist() == [0, 25, 75, 100]
  left = sampling.resize(row(0, 100), 1, 4, sampling.corners)
  assert left[0, :, 0].tolist() == [0, 50, 100, 100]


def test_shrinking_is_not_antialiased():
  stripes = row(*[0, 200] * 8)
  assert sampling.resize(stripes, 1, 8, sampling.corners)[0, :, 0].tolist() == [0] * 8


@pytest.mark.parametrize("interpolation", ["bilinear_pytorch", "bilinear_tensorflow1"])
@pytest.mark.parametrize("resize", ["squash", "short_side"])
def test_crops_have_float32_pixels(interpolation, resize):
  crop = EvaluationCrop(32, 0.875, resize, interpolation)
  pixels = crop(photograph(50, 70))
  assert crop.dtype == pixels.dtype == np.float32
  assert pixels.shape == (32, 32, 3)
  assert np.any(pixels != np.round(pixels))
  assert EvaluationCrop(32).dtype == np.uint8


def test_what_has_the_size_already_stays_as_it_is():
  image = photograph(32, 32)
  for interpolation in ("bilinear_pytorch", "bilinear_tensorflow1"):
    np.testing.assert_array_equal(EvaluationCrop(32, interpolation=interpolation)(image), image)
