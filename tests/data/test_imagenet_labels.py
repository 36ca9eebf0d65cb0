"""TFDS's labels of ImageNet."""

import collections

import pytest

from speedpaper_jax.data import imagenet_labels


@pytest.mark.parametrize(
  ("identifier", "label"), [("n01440764", 0), ("n02119789", 278), ("n15075141", 999)]
)
def test_classes_have_their_labels(identifier, label):
  assert imagenet_labels.class_identifiers()[identifier] == label


# A sea snake, an alp, a Shetland sheepdog.
@pytest.mark.parametrize(
  ("number", "identifier"), [(1, "n01751748"), (2, "n09193705"), (3, "n02105855")]
)
def test_validation_images_have_their_labels(number, identifier):
  label = imagenet_labels.listed_label(f"ILSVRC2012_val_{number:08}.JPEG")
  assert label == imagenet_labels.class_identifiers()[identifier]


def test_each_class_has_fifty_validation_images():
  labels = [
    imagenet_labels.listed_label(f"ILSVRC2012_val_{number:08}.JPEG") for number in range(1, 50_001)
  ]
  assert set(collections.Counter(labels).values()) == {50}


@pytest.mark.parametrize(
  "name", ["ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_val_00050001.JPEG", "val_1.JPEG", "x"]
)
def test_other_names_have_none(name):
  assert imagenet_labels.listed_label(name) is None
