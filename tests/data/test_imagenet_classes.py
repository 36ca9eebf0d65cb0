"""ImageNet's classes by name."""

import importlib.util
import pathlib

import pytest
import tensorflow_datasets as tfds
from packages import require

from speedpaper_jax.data.imagenet_classes import class_names, classes_of, english_name

# TFDS's own list of the labels, in its order.
LABELS = pathlib.Path(tfds.__file__).parent / "datasets" / "imagenet2012" / "labels.txt"


def test_a_thousand_different_names():
  names = class_names()
  assert len(set(names)) == len(names) == 1000
  assert all(name == name.strip() and name for name in names)


@pytest.mark.parametrize(
  ("label", "identifier", "name"),
  [
    (0, "n01440764", "tench"),
    (134, "n02012849", "crane bird"),
    (278, "n02119789", "kit fox"),
    (517, "n03126707", "crane"),
    (954, "n07753592", "banana"),
    (999, "n15075141", "toilet tissue"),
  ],
)
def test_identifier_label_and_name_belong_together(label, identifier, name):
  assert english_name(identifier) == class_names()[label] == name


def test_the_order_is_that_of_the_labels():
  identifiers = LABELS.read_text().split()
  assert [english_name(identifier) for identifier in identifiers] == class_names()


def test_other_names_stay_as_they_are():
  assert english_name("zero") == "zero"


@pytest.mark.parametrize("data_set", ["imagenet_a", "imagenet_r"])
def test_classes_of_the_sets_that_have_200(data_set):
  classes = classes_of(data_set)
  assert len(classes) == 200
  assert classes == [name for name in LABELS.read_text().split() if name in classes]


@pytest.mark.parametrize("data_set", ["imagenet_a", "imagenet_r"])
def test_they_are_timms(data_set):
  require("timm")
  info = pathlib.Path(importlib.util.find_spec("timm").origin).parent / "data" / "_info"
  assert classes_of(data_set) == (info / f"{data_set}_synsets.txt").read_text().split()


def test_other_sets_have_whatever_they_have():
  assert classes_of("imagenet_v2") is classes_of("folder") is None
