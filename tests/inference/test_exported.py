"""A program says what the network says, whatever the batch size and the form of its input."""

import dataclasses
import hashlib
import re

import jax
import jax.export
import numpy as np
import pytest
import tiny

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import PER_IMAGE, Normalization
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import exported
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import LayerSettings

MEAN, STD = np.array([104.0, 117.0, 123.0]), np.array([60.0, 50.0, 40.0])
CROP = EvaluationCrop(8, 0.8, "short_side", "bicubic")
NORMALIZATION = Normalization("BGR", tuple(MEAN), tuple(STD))
NAMES = ("n02119789", "rose", "tulip")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)


def make_model(crop=CROP, normalization=NORMALIZATION, batch_norm=None):
  network = tiny.TinyNetwork(len(NAMES), LayerSettings(batch_norm or BatchNorm(epsilon=1e-3)))
  variables = network.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), train=False)
  generator = np.random.default_rng(1)
  variables = jax.tree.map(lambda leaf: leaf + generator.uniform(0, 0.5, leaf.shape), variables)
  variables = jax.tree.map(np.float32, variables)
  preprocessing = Preprocessing(crop, normalization)
  description = ModelDescription("bn_inception", "paper", 3, NAMES, preprocessing, "a test")
  return LoadedModel(0, train_config(), description, network, variables)


def by_the_network(model, normalised):
  """Probabilities, unfolded and in one piece."""
  apply = jax.jit(lambda x: model.network.apply(model.variables, x, train=False))
  return np.asarray(jax.nn.softmax(apply(np.float32(normalised))))


NORMALISED = (PIXELS[..., ::-1] - MEAN) / STD
EXPECTED = by_the_network(make_model(), NORMALISED)


def call(program, images):
  return np.asarray(jax.export.deserialize(bytearray(program)).call(images))


@pytest.fixture(scope="module")
def of_pixels():
  return exported.export(make_model())


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_pixels_of_any_batch_size(of_pixels, rows):
  program, _ = of_pixels
  found = call(program, PIXELS[:rows])
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, EXPECTED[:rows], atol=1e-6)


def test_the_description_has_all_that_its_use_needs(of_pixels):
  program, description = of_pixels
  assert description.pop("versions").keys() == {"speedpaper_jax", "jax"}
  assert description == {
    "format": 1,
    "sha256": hashlib.sha256(program).hexdigest(),
    "network": "bn_inception",
    "dialect": "paper",
    "source": "a test",
    "inputs": {"values": "pixels", "shape": ["b", 8, 8, 3], "dtype": "uint8"},
    "outputs": {"values": "probabilities", "shape": ["b", 3], "dtype": "float32"},
    "arithmetic": "float32",
    "platforms": ["cpu", "cuda", "rocm", "tpu"],
    "preprocessing": {
      "image_size": 8,
      "central_fraction": 0.8,
      "resize": "short_side",
      "interpolation": "bicubic",
      "channels": "BGR",
      "mean": list(MEAN),
      "std": list(STD),
    },
    "class_names": ["kit fox", "rose", "tulip"],
  }


def test_normalised_input():
  program, description = exported.export(make_model(), inputs="normalized")
  assert description["inputs"] == {
    "values": "normalized",
    "shape": ["b", 8, 8, 3],
    "dtype": "float32",
  }
  np.testing.assert_allclose(call(program, np.float32(NORMALISED)), EXPECTED, atol=1e-6)


def test_pixels_that_a_crop_does_not_round_are_float32():
  crop = dataclasses.replace(CROP, resize="squash", interpolation="bilinear_pytorch")
  program, description = exported.export(make_model(crop))
  assert description["inputs"]["dtype"] == "float32"
  unrounded = np.float32(PIXELS) + np.float32(0.25)
  expected = by_the_network(make_model(), (unrounded[..., ::-1] - MEAN) / STD)
  np.testing.assert_allclose(call(program, unrounded), expected, atol=1e-6)


def test_pixels_that_are_whitened_image_by_image():
  program, description = exported.export(make_model(normalization=PER_IMAGE))
  assert description["preprocessing"]["per_image_whitening"] is True
  axes = (1, 2, 3)
  deviation = PIXELS.std(axes, keepdims=True)
  whitened = (PIXELS - PIXELS.mean(axes, keepdims=True)) / deviation
  np.testing.assert_allclose(
    call(program, PIXELS), by_the_network(make_model(), whitened), atol=1e-6
  )


def test_bfloat16_needs_half_the_bytes_for_kernels(of_pixels):
  program, description = exported.export(make_model(), dtype="bfloat16")
  assert description["arithmetic"] == "bfloat16"
  found = call(program, PIXELS)
  assert found.dtype == np.float32
  assert 1e-5 < np.abs(found - EXPECTED).max() < 2e-2
  for each, kernel in {
    of_pixels[0]: "tensor<3x3x3x8xf32>",
    program: "tensor<3x3x3x8xbf16>",
  }.items():
    text = jax.export.deserialize(bytearray(each)).mlir_module()
    assert set(re.findall(r"constant .* : (tensor<3x3x3x8x.*>)", text)) == {kernel}


@pytest.mark.parametrize("platforms", [["cpu"], ["tpu", "cpu"], ["cuda"]])
def test_platforms(platforms):
  program, description = exported.export(make_model(), platforms=platforms)
  assert description["platforms"] == platforms
  assert list(jax.export.deserialize(bytearray(program)).platforms) == platforms
  if "cpu" in platforms:
    np.testing.assert_allclose(call(program, PIXELS), EXPECTED, atol=1e-6)


def test_normalizations_per_activation_stay_in_the_program():
  model = make_model(batch_norm=BatchNorm(epsilon=1e-3, per_activation=True))
  program, _ = exported.export(model)
  expected = by_the_network(model, NORMALISED)
  assert np.abs(expected - EXPECTED).max() > 1e-3
  np.testing.assert_allclose(call(program, PIXELS), expected, atol=1e-6)


def test_a_network_without_classes():
  model = make_model()
  description = dataclasses.replace(model.description, num_classes=0, class_names=())
  with pytest.raises(UserError, match="bn_inception was saved without classes to export"):
    exported.export(dataclasses.replace(model, description=description))


@pytest.mark.parametrize(
  ("platforms", "message"),
  [
    (["gpu"], r"^There is no platform 'gpu'; take some of cpu, cuda, rocm, tpu\.$"),
    ([""], "There is no platform ''"),
    (["cpu", "cpu"], "A platform is named twice"),
  ],
)
def test_platforms_that_there_are_none_of(platforms, message):
  with pytest.raises(UserError, match=message):
    exported.check_platforms(platforms)
