"""Labels go by the names of their classes, or the data are refused."""

import numpy as np
import pytest

from speedpaper_jax.data import imagenet_classes
from speedpaper_jax.data.relabel import by_name
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError

COLOURS = ("blue", "green", "red")


class Labelled:
  """A record for each label, and what else is asked of records."""

  def __init__(self, labels):
    self._labels = labels

  def __len__(self):
    return len(self._labels)

  def __getitem__(self, index):
    return {"image": np.zeros((1, 1, 3), np.uint8), "label": self._labels[index]}

  def name(self, index):
    return f"the image {index}"

  def short_name(self, index):
    return f"image {index}"

  def labels(self):
    return self._labels

  def digest(self):
    return "a digest"


def split(*names, labels=None):
  labels = range(len(names)) if labels is None else labels
  return Split(Labelled(list(labels)), num_classes=len(names), class_names=names)


def labels(split):
  return [split.records[index]["label"] for index in range(len(split))]


def test_the_same_classes_stay_as_they_are():
  own = split(*COLOURS)
  assert by_name(own, COLOURS) == (own, "")


def test_another_order_is_put_right():
  relabelled, note = by_name(split("red", "blue", "green", labels=[0, 0, 1, 2]), COLOURS)
  assert labels(relabelled) == relabelled.records.labels() == [2, 2, 0, 1]
  assert relabelled.class_counts() == [1, 1, 2]
  assert (relabelled.num_classes, relabelled.class_names) == (3, COLOURS)
  assert note == "the data have the network's 3 classes in another order; labels go by their names."


def test_some_of_the_classes_have_their_numbers_among_all():
  relabelled, note = by_name(split("green", "red"), COLOURS)
  assert labels(relabelled) == [1, 2]
  assert relabelled.num_classes == 3
  assert note == "the data have 2 of the network's 3 classes; labels go by their names."


def test_imagenets_classes_are_known_by_both_names_and_behind_a_background_class():
  names = imagenet_classes.class_names()
  for known in (names, ["background", *names]):
    relabelled, _ = by_name(split("n01443537", "tench"), known)
    assert labels(relabelled) == [known.index("goldfish"), known.index("tench")]


def test_records_are_those_of_before_but_for_the_label():
  relabelled, _ = by_name(split("red", "blue", "green"), COLOURS)
  assert relabelled.records[0]["image"].shape == (1, 1, 3)
  assert relabelled.records.name(1) == "the image 1"
  assert relabelled.records.digest() == "a digest"
  assert len(relabelled) == 3


def test_what_has_no_class_gets_none():
  """-1 says so in TFDS's test splits; it is no class counted from the end."""
  relabelled, _ = by_name(split("red", "blue", labels=[-1, 0, 2]), COLOURS)
  assert labels(relabelled) == [-1, 2, -1]


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (
      ("hong", "lan", "lv"),
      r"does not know: 'hong', 'lan', 'lv'\. Valid: 'blue', 'green', 'red'\. Rename",
    ),
    (("blue", "green", "Red"), r"does not know: 'Red'\. Did you mean 'red'\?"),
    (("blue", "green", "red", "yellow"), "does not know: 'yellow'"),
    (("green", "blue ", "red"), "does not know: 'blue '"),
    (("red", "red", "blue"), "have the same name"),
  ],
)
def test_classes_that_the_network_does_not_know_are_refused(names, message):
  with pytest.raises(UserError, match=message):
    by_name(split(*names), COLOURS)


@pytest.mark.parametrize("names", [COLOURS, ("0", "1", "2")])
def test_a_network_without_names_is_told_how_to_get_them(names):
  with pytest.raises(UserError, match=r"no names of its classes.* --class_names=FILE when you con"):
    by_name(split(*names), ())
