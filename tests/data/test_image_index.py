"""TFDS's order and files of images, from names and sizes alone."""

import hashlib
import pathlib
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.core.utils import shard_utils

from speedpaper_jax.data.image_index import Images, Split
from speedpaper_jax.errors import UserError


class Archive:
  def __init__(self, name="a.tar"):
    self.path = pathlib.Path(name)

  def read(self, position, size):
    return bytes([position % 256]) * size


def images_of(names, sizes=None):
  images, archive = Images(), Archive()
  for position, name in enumerate(names):
    images.add(archive, position, name, sizes[position] if sizes else 10)
  return images


def split_of(names, sizes=None, **options):
  return Split("test", images_of(names, sizes), {"label": np.zeros(len(names), int)}, **options)


def test_the_order_is_that_of_the_keys_hashes_salted_with_the_split():
  names = [f"n01440764/{number}.JPEG" for number in range(200)]
  split = split_of(names, key=lambda name: name.replace("/", "_"))
  expected = sorted(
    range(200), key=lambda n: hashlib.md5(b"test" + names[n].replace("/", "_").encode()).digest()
  )
  assert split.order.tolist() == expected


@pytest.mark.parametrize(
  ("count", "size", "files"),
  # Files have 64 MiB or more, where that makes two at least; large data sets have 1,024.
  [(200, 600_000, 1), (2000, 68_000, 2), (50_000, 134_898, 64), (70_000, 1_000_000, 1024)],
)
def test_files_are_as_many_as_tfds_writes(count, size, files):
  split = split_of([str(number) for number in range(count)], [size] * count)
  lengths = [len(images) for images in split.shards]
  assert len(lengths) == files
  assert sum(lengths) == count
  assert max(lengths) - min(lengths) <= 1
  assert np.concatenate(split.shards).tolist() == split.order.tolist()


@pytest.mark.parametrize("name", ["imagenet2012", "imagenet2012_real"])
def test_the_size_of_every_record_is_known_before_it_is_made(tmp_path, name):
  builder = tfds.builder(name, data_dir=tmp_path)
  generator = np.random.default_rng(0)
  count = 150
  sizes = (10 ** generator.uniform(0, 6, count)).astype(int).tolist()
  names = ["é" * int(length) for length in generator.integers(1, 200, count)]
  labels = generator.integers(-1, 1000, count)
  lists = [generator.integers(0, 1000, n).tolist() for n in generator.integers(0, 150, count)]
  integers = {
    "imagenet2012": {"label": labels},
    "imagenet2012_real": {"original_label": labels, "real_label": lists},
  }[name]
  split = Split("validation", images_of(names, sizes), integers)
  serializer = example_serializer.ExampleSerializer(builder.info.features.get_serialized_info())
  for index in range(count):
    example = split.example(index, split.images.read(index))
    encoded = builder.info.features.encode_example(example)
    assert len(serializer.serialize_example(encoded)) == split.record_sizes[index]


def test_two_images_of_one_name_are_an_error():
  split = split_of(["a.JPEG", "b.JPEG", "a.JPEG"])
  message = "Two images of the split 'test' have one name: a.JPEG of a.tar, and a.JPEG of a.tar;"
  with pytest.raises(UserError, match=re.escape(message)):
    split.order  # noqa: B018


def test_what_replaces_an_image_is_read_in_its_place():
  images = images_of(["a.JPEG", "b.JPEG"])
  images.replace(1, b"other")
  assert (images.read(0), images.read(1), images.sizes.tolist()) == (bytes(10), b"other", [10, 5])


@pytest.mark.parametrize("changed", ["names", "sizes", "labels"])
def test_the_digest_of_a_file_is_that_of_its_images(changed):
  names, sizes, labels = ["a", "b", "c"], [1, 2, 3], [4, 5, 6]
  before = Split("test", images_of(names, sizes), {"label": labels})
  changes = {"names": (["a", "b", "d"], sizes, labels), "sizes": (names, [1, 2, 4], labels)}
  new_names, new_sizes, new_labels = changes.get(changed, (names, sizes, [4, 5, 7]))
  after = Split("test", images_of(new_names, new_sizes), {"label": new_labels})
  assert before.digest([0, 1]) == after.digest([0, 1])
  assert before.digest([0, 2]) != after.digest([0, 2])


def test_the_smallest_file_is_tfds_s():
  assert shard_utils.ShardConfig.min_shard_size == 64 * 2**20
