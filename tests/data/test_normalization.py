"""Pixel values → network input."""

import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax.data.normalization import DEFAULT, Normalization
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


@pytest.mark.parametrize("normalization", [DEFAULT, CAFFE])
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
