"""Some of the images of a split."""

import numpy as np
import pytest

from speedpaper_jax.data import imagenet_classes
from speedpaper_jax.data.selection import choose, select
from speedpaper_jax.data.sources import Split
from speedpaper_jax.data.validation_labels import file_name
from speedpaper_jax.errors import UserError


class Records(list):
  """Images that are called as ImageNet's; the last one comes first."""

  def name(self, index):
    return f"the image {self.short_name(index)}"

  def short_name(self, index):
    return f"n{self[index]['label']}"

  def file_name(self, index):
    return file_name(self[index]["label"])

  def labels(self):
    return [record["label"] for record in self]

  def digest(self):
    return "all"


@pytest.fixture
def split():
  records = Records({"image": b"", "label": number} for number in (5, 4, 3, 2, 1))
  return Split(records, 1000, tuple(imagenet_classes.class_names()))


def test_records_keep_their_order_and_their_names(split):
  some = select(split, np.array([True, False, True, True, False]))
  assert len(some) == 3
  assert [some.records[place]["label"] for place in range(3)] == [5, 3, 2]
  assert some.records.labels() == [5, 3, 2]
  assert some.records.name(1) == "the image n3"
  assert some.records.short_name(2) == "n2"
  assert some.records.file_name(0) == file_name(5)


def test_the_digest_says_which_they_are(split):
  first = select(split, np.array([True, False, True, True, False]))
  again = select(split, np.array([True, False, True, True, False]))
  other = select(split, np.array([True, False, True, False, True]))
  digests = [each.records.digest() for each in (first, again, other, split)]
  assert digests[0] == digests[1]
  assert len(set(digests)) == 3


def test_of_all_nothing_is_told(split):
  chosen = choose(split)
  assert (len(chosen.split), chosen.right, chosen.told) == (5, None, [])


def test_a_list_to_leave_out(split):
  chosen = choose(split, excluded=frozenset({file_name(2), file_name(5), file_name(77)}))
  assert chosen.split.records.labels() == [4, 3, 1]
  assert chosen.right is None
  assert chosen.told == [
    "2 of the 5 images are left out.",
    "1 of the 3 images to leave out are not in the split.",
  ]


def test_other_labels_and_images_without_one(split):
  labels = {file_name(number): (10 * number, 7) if number != 4 else () for number in range(1, 6)}
  chosen = choose(split, labels=labels)
  assert chosen.split.records.labels() == [5, 3, 2, 1]
  assert chosen.right == [(50, 7), (30, 7), (20, 7), (10, 7)]
  assert chosen.told == ["1 images without a right class are left out."]


def test_both(split):
  labels = {file_name(number): (number,) if number != 4 else () for number in range(1, 6)}
  chosen = choose(split, excluded=frozenset({file_name(4), file_name(1)}), labels=labels)
  assert chosen.split.records.labels() == [5, 3, 2]
  assert chosen.right == [(5,), (3,), (2,)]
  assert chosen.told == ["2 of the 5 images are left out."]


def test_where_nothing_is_left_it_is_an_error(split):
  with pytest.raises(UserError, match="No image is left to evaluate on; leave out fewer"):
    choose(split, excluded=frozenset(map(file_name, range(1, 6))))
