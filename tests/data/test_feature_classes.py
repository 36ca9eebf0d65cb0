"""Somebody else's data set runs no code: features.json names TFDS's own classes, or is refused."""

import contextlib
import json
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from speedpaper_jax.data import feature_classes
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.data.store import DataSet, store
from speedpaper_jax.errors import UserError

FEATURES = "tensorflow_datasets.core.features"
EVIL = "somebody_elses.Feature"


@pytest.fixture(scope="module")
def features(tmp_path_factory):
  """The content of the features.json of a data set with an image and a label."""
  data_set = DataSet("one", "1.0.0", (1, 1, 3), 1, "One image.", "https://example.org", "")
  root = tmp_path_factory.mktemp("root")
  store(data_set, root, {}, {})
  return json.loads((data_set.directory(root) / "features.json").read_text())


@pytest.fixture
def check(tmp_path):
  """Checks a content of features.json."""

  def check(content):
    (tmp_path / "features.json").write_text(json.dumps(content))
    feature_classes.check(tmp_path)

  return check


def feature(name=EVIL, **content):
  return {"pythonClassName": name, **content}


def in_features_dict(**features):
  return feature(f"{FEATURES}.features_dict.FeaturesDict", featuresDict={"features": features})


def test_a_data_set_does_not_bring_code(tmp_path, monkeypatch):
  """Where Python would find the module, as in a clone that has the data set below it."""
  data_set = DataSet("one", "1.0.0", (1, 1, 3), 1, "One image.", "https://example.org", "")
  store(data_set, tmp_path, {}, {})
  directory = data_set.directory(tmp_path)
  marker = tmp_path / "marker"
  (tmp_path / "one" / "code.py").write_text(f"open({str(marker)!r}, 'w').close()")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  path = directory / "features.json"
  content = path.read_text()
  path.write_text(content.replace(f"{FEATURES}.image_feature.Image", "one.code.Image"))
  message = f"{path} names the class 'one.code.Image', which is none of TFDS's own features"
  with pytest.raises(UserError, match=re.escape(message)):
    open_split("one", "train", str(tmp_path))
  assert not marker.exists()
  with pytest.raises(ValueError, match="Unrecognized FeatureConnector"):
    tfds.builder_from_directory(directory)
  assert marker.exists(), "TFDS alone would have run it"


@pytest.mark.parametrize("key", ["moduleName", "configName", "name"])
def test_what_else_a_description_names_is_not_imported(tmp_path, monkeypatch, key):
  data_set = DataSet("one", "1.0.0", (1, 1, 3), 1, "One image.", "https://example.org", "")
  store(data_set, tmp_path, {"train": [{"image": np.zeros((1, 1, 3), np.uint8), "label": 0}]}, {})
  marker = tmp_path / "marker"
  (tmp_path / "somebody_elses.py").write_text(f"open({str(marker)!r}, 'w').close()")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  path = data_set.directory(tmp_path) / "dataset_info.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), key: "somebody_elses"}))
  with contextlib.suppress(UserError):  # its files have another name then
    open_split("one", "train", str(tmp_path))
  assert not marker.exists()


def test_the_classes_of_tfds_are_known(check, features):
  check(features)
  label = {"classLabel": {"numClasses": "2"}}
  check(
    in_features_dict(
      boxes=feature(
        f"{FEATURES}.sequence_feature.Sequence",
        sequence={"feature": feature(f"{FEATURES}.bounding_boxes.BBoxFeature")},
      ),
      type=feature(f"{FEATURES}.class_label_feature.ClassLabel", **label),
      text=feature(f"{FEATURES}.text_feature.Text", text={}, description="[a caption]"),
      scalar=feature(f"{FEATURES}.scalar.Scalar"),
      words=feature(f"{FEATURES}.translation_feature.Translation"),
    )
  )


@pytest.mark.parametrize(
  "content",
  [
    feature(),
    {"python_class_name": EVIL},
    {"type": EVIL, "content": {}},
    in_features_dict(image=feature()),
    in_features_dict(image=in_features_dict(inner={"python_class_name": EVIL})),
    in_features_dict(
      boxes=feature(f"{FEATURES}.sequence_feature.Sequence", sequence={"feature": feature()})
    ),
    feature(
      f"{FEATURES}.features_dict.FeaturesDict",
      jsonFeature={"json": json.dumps({"image": {"type": EVIL, "content": {}}})},
    ),
    {
      "type": f"{FEATURES}.features_dict.FeaturesDict",
      "proto_cls": "tensorflow_datasets.FeaturesDict",
      "content": json.dumps({"features": {"image": feature()}}),
    },
    {"type": f"{FEATURES}.sequence_feature.Sequence", "content": {"feature": {"type": EVIL}}},
    [feature()],
  ],
)
def test_a_class_of_somebody_else_is_found_wherever_it_stands(check, content):
  with pytest.raises(UserError, match=f"names the class '{EVIL}'"):
    check(content)


@pytest.mark.parametrize(
  "name",
  [
    "",
    "Image",
    "tensorflow_datasets.evil.Image",
    f"{FEATURES}.image_feature.Other",
    f"{FEATURES}.image_feature.Image ",
    "os.path.join",
  ],
)
def test_a_class_that_is_only_called_like_one_of_tfds_is_refused(check, name):
  with pytest.raises(UserError, match="is none of TFDS's own features"):
    check(in_features_dict(image=feature(name)))


@pytest.mark.parametrize("content", [b"", b"{", b'{"\xff": 1}', b"[" * 100_000])
def test_what_cannot_be_read_is_no_data_set(tmp_path, content):
  (tmp_path / "features.json").write_bytes(content)
  with pytest.raises((ValueError, RecursionError)):
    feature_classes.check(tmp_path)
