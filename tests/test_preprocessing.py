"""Preprocessing as model.json has it."""

import pytest

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.errors import UserError
from speedpaper_jax.normalization import Normalization
from speedpaper_jax.preprocessing import Preprocessing

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
    ({"image_size": "224"}, "image_size is '224'; give a number of pixels"),
    ({"image_size": 0}, "image_size is 0; give a number of pixels"),
    ({"central_fraction": 1.5}, r"central_fraction is 1.5; give one in \(0, 1\]"),
    ({"central_fraction": None}, "central_fraction is None"),
    ({"resize": "short"}, r"Unknown resize 'short'. Did you mean 'short_side'\?"),
    ({"interpolation": "cubic"}, r"Unknown interpolation 'cubic'. Did you mean 'bicubic'\?"),
    ({"interpolation": []}, "A value of the crop is of the wrong kind"),
    ({"mean": 0}, "mean and std must be three numbers each"),
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
