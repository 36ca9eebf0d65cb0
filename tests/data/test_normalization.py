"""Pixel values → network input."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax.data.normalization import DEFAULT, PER_IMAGE, Normalization
from speedpaper_jax.errors import UserError

CAFFE = Normalization("BGR", (104, 117, 123), (1, 1, 1))


def test_the_default_is_plus_minus_one():
  images = jnp.asarray(np.array([[0, 51, 255]], np.uint8))
  normalised = DEFAULT.apply(images)
  assert normalised.dtype == jnp.float32
  np.testing.assert_allclose(normalised, [[-1, -0.6, 1]], rtol=1e-6)


def test_each_channel_has_its_own_values():
  normalised = Normalization("RGB", (10, 20, 30), (1, 2, 4)).apply(
    jnp.full((2, 3, 3, 3), 50, jnp.uint8)
  )
  np.testing.assert_allclose(normalised, np.broadcast_to([40, 15, 5], (2, 3, 3, 3)))


def test_mean_and_std_are_in_the_order_of_the_channels():
  red_green_blue = jnp.array([[[[123, 117, 105]]]], jnp.uint8)
  np.testing.assert_allclose(CAFFE.apply(red_green_blue), [[[[1, 0, 0]]]])


class TestPerImageWhitening:
  @staticmethod
  def expected(images):
    """TensorFlow's `per_image_standardization` in float64, image by image."""
    whitened = []
    for image in images.reshape(-1, *images.shape[-3:]).astype(np.float64):
      deviation = np.sqrt(np.mean(image**2) - np.mean(image) ** 2)
      whitened.append((image - image.mean()) / max(deviation, 1 / np.sqrt(image.size)))
    return np.array(whitened).reshape(images.shape)

  @pytest.mark.parametrize("shape", [(3, 8, 8, 3), (2, 5, 7, 3), (2, 10, 4, 4, 3), (6, 6, 3)])
  def test_each_image_is_whitened_by_itself(self, shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    images[0] //= 8  # darker than the others
    whitened = PER_IMAGE.apply(images)
    assert whitened.dtype == jnp.float32
    np.testing.assert_allclose(whitened, self.expected(images), rtol=0, atol=1e-5)

  def test_an_image_of_one_colour_is_zero(self):
    """So are rows of padding, and images that cannot be decoded."""
    images = np.stack([np.full((224, 224, 3), value, np.uint8) for value in (0, 77, 255)])
    np.testing.assert_allclose(PER_IMAGE.apply(images), np.zeros(images.shape), atol=1e-6)

  def test_an_image_of_nearly_one_colour_is_not_enlarged_beyond_bounds(self):
    images = np.full((1, 30, 30, 3), 128, np.uint8)
    images[0, 0, 0, 0] = 129  # a deviation of 1 / √2700 less a bit
    found = np.asarray(PER_IMAGE.apply(images), np.float64)
    np.testing.assert_allclose(found, self.expected(images), rtol=1e-5, atol=1e-5)
    assert found.max() == pytest.approx((1 - 1 / 2700) * np.sqrt(2700), rel=1e-5)

  def test_channels_are_put_in_order_as_without(self):
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    swapped = dataclasses.replace(PER_IMAGE, channels="BGR").apply(images)
    np.testing.assert_allclose(swapped[..., ::-1], PER_IMAGE.apply(images), atol=1e-6)

  def test_it_is_stated_where_it_is_done_and_nowhere_else(self):
    assert PER_IMAGE.to_json()["per_image_whitening"] is True
    assert DEFAULT.to_json().keys() == {"channels", "mean", "std"}


@pytest.mark.parametrize("normalization", [DEFAULT, CAFFE, PER_IMAGE])
def test_json_and_back(normalization):
  assert Normalization.from_json(normalization.to_json()) == normalization


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"channels": "RBG"}, r"channels='RBG' is unknown. Did you mean 'RGB'\?"),
    ({"channels": None}, "channels is None; it must be a text"),
    ({"mean": [1, 2]}, "mean is .* it must be a list of 3, each a number from"),
    ({"mean": [1, 2, float("nan")]}, "mean is .* it must be a list of 3, each a number from"),
    ({"mean": [1, 2, 1e39]}, "mean is .* it must be a list of 3, each a number from"),
    ({"mean": ["127.5", "127.5", "127.5"]}, "mean is .* it must be a list of 3"),
    ({"mean": [True, True, True]}, "mean is .* it must be a list of 3"),
    ({"mean": 127.5}, "mean is 127.5; it must be a list of 3"),
    ({"mean": {"a": 1, "b": 2, "c": 3}}, "mean is .* it must be a list of 3"),
    ({"std": ["a", "b", "c"]}, "std is .* it must be a list of 3, each a number from"),
    ({"std": [1, 1, 0]}, "std is .* each a number from 1e-06 to"),
    ({"std": [1, 1, -1]}, "std is .* each a number from 1e-06 to"),
    ({"per_image_whitening": 1}, "per_image_whitening is 1; it must be"),
    ({"per_image_whitening": None}, "per_image_whitening is None; it must be"),
    ({"std": [1, 1, 1e-30]}, "std is .* each a number from 1e-06 to"),
  ],
)
def test_bad_content_is_refused(change, message):
  with pytest.raises(UserError, match=message):
    Normalization.from_json({**DEFAULT.to_json(), **change})


@pytest.mark.parametrize("key", ["channels", "mean", "std"])
def test_missing_content_is_refused(key):
  content = DEFAULT.to_json()
  del content[key]
  with pytest.raises(UserError, match=f"There is no '{key}' of the channels"):
    Normalization.from_json(content)
