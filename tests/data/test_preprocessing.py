"""Preprocessing as model.json has it."""

import pytest

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError

CAFFE = Preprocessing(
  EvaluationCrop(224, 0.875, "short_side", "bicubic"),
  Normalization("BGR", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0)),
)


def test_json():
  content = CAFFE.to_json()
  assert content == {
    "image_size": 224,
    "central_fraction": 0.875,
    "resize": "short_side",
    "interpolation": "bicubic",
    "channels": "BGR",
    "mean": [104.0, 117.0, 123.0],
    "std": [1.0, 1.0, 1.0],
  }
  assert Preprocessing.from_json(content) == CAFFE


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"image_size": "224"}, "image_size is '224'; it must be a whole number from 1 to 4,096"),
    ({"image_size": 0}, "image_size is 0; it must be a whole number from 1 to 4,096"),
    ({"image_size": 10**9}, "image_size is 1000000000; it must be a whole number from 1 to"),
    ({"image_size": True}, "image_size is True; it must be a whole number"),
    ({"image_size": 224.0}, "image_size is 224.0; it must be a whole number"),
    ({"central_fraction": 1.5}, "central_fraction is 1.5; it must be a number from 0.1 to 1"),
    ({"central_fraction": 1e-300}, "central_fraction is 1e-300; it must be a number from 0.1"),
    ({"central_fraction": None}, "central_fraction is None"),
    ({"central_fraction": True}, "central_fraction is True"),
    ({"central_fraction": float("nan")}, "central_fraction is nan"),
    ({"resize": "short"}, r"resize='short' is unknown. Did you mean 'short_side'\?"),
    ({"interpolation": "cubic"}, r"interpolation='cubic' is unknown. Did you mean 'bicubic'\?"),
    ({"interpolation": []}, r"interpolation is \[\]; it must be a text"),
    ({"mean": 0}, "mean is 0; it must be a list of 3"),
  ],
)
def test_bad_content_is_refused(change, message):
  with pytest.raises(UserError, match=message):
    Preprocessing.from_json({**CAFFE.to_json(), **change})


@pytest.mark.parametrize("key", list(CAFFE.to_json()))
def test_missing_content_is_refused(key):
  content = CAFFE.to_json()
  del content[key]
  with pytest.raises(UserError, match=f"There is no '{key}'"):
    Preprocessing.from_json(content)
