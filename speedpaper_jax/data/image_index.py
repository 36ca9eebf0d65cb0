"""The images of one split in TFDS's order, before any of them is read.

TFDS sorts the records of a split by a hash of the keys, and cuts them into files of equal numbers;
the whole size says how many. All that is known from names and sizes alone, so that each file can
be written by itself, straight from the archives. Of a million images it is a few columns.
"""

import array
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# TFDS's own hash and rule of cutting, of its writer; there is no public way to them.
from tensorflow_datasets.core import hashing
from tensorflow_datasets.core.utils import shard_utils

from speedpaper_jax.data.image_archives import Archive
from speedpaper_jax.errors import UserError

# Numbers of fields in TensorFlow's Example, a protocol buffer, are below 16: one byte each.
_TAG = 1

Integers = Sequence[int] | Sequence[Sequence[int]] | np.ndarray


def _key_is_name(name: str) -> str:
  return name


class Images:
  """Where images are: columns with one value for each."""

  def __init__(self) -> None:
    """Starts with none."""
    self.archives: list[Archive] = []
    self.names: list[str] = []  # TFDS's feature "file_name"
    self.sizes = array.array("q")
    self._archive = array.array("h")
    self._position = array.array("q")
    self._replaced: dict[int, bytes] = {}

  def __len__(self) -> int:
    return len(self.names)

  def add(self, archive: Archive, position: int, name: str, size: int) -> None:
    """Adds an image.

    Args:
      archive: that holds it.
      position: in the archive.
      name: as TFDS names the file.
      size: in bytes.
    """
    if not self.archives or self.archives[-1] is not archive:
      self.archives.append(archive)
    self._archive.append(len(self.archives) - 1)
    self._position.append(position)
    self.names.append(name)
    self.sizes.append(size)

  def replace(self, index: int, content: bytes) -> None:
    """Takes other bytes for an image than those in the archive."""
    self._replaced[index] = content
    self.sizes[index] = len(content)

  def place(self, index: int) -> tuple[int, int]:
    """Archive and position, by which images that are near each other on a disk have their order."""
    return self._archive[index], self._position[index]

  def path(self, index: int) -> str:
    """What an image is called in a sentence to the user."""
    return f"{self.names[index]} of {self.archives[self._archive[index]].path}"

  def read(self, index: int) -> bytes:
    """The bytes of an image.

    Raises:
      UserError: they cannot be read.
    """
    if (content := self._replaced.get(index)) is not None:
      return content
    archive = self.archives[self._archive[index]]
    return archive.read(self._position[index], self.sizes[index])


@dataclasses.dataclass(frozen=True)
class Split:
  """A split of a data set of images.

  Attributes:
    name: TFDS's.
    images: where they are.
    integers: features beside "image" and "file_name", with a number or several for each image.
    key: of a file's name, by whose hash TFDS sorts.
  """

  name: str
  images: Images
  integers: Mapping[str, Integers]
  key: Callable[[str], str] = _key_is_name

  def __len__(self) -> int:
    return len(self.images)

  @functools.cached_property
  def order(self) -> np.ndarray:
    """Numbers of the images in the order of the records, int64 `[N]`.

    Raises:
      UserError: two images have one key.
    """
    hasher = hashing.Hasher(self.name)
    hashes = b"".join(
      hasher.hash_key(self.key(name)).to_bytes(16, "big") for name in self.images.names
    )
    high, low = np.frombuffer(hashes, ">u8").reshape(-1, 2).T.astype(np.uint64)
    order = np.lexsort((low, high))
    same = (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
    if same.any():
      first, second = order[np.flatnonzero(same)[0] :][:2]
      raise UserError(
        f"Two images of the split '{self.name}' have one name: {self.images.path(first)}, and "
        f"{self.images.path(second)}; leave one of them out."
      )
    return order

  @functools.cached_property
  def record_sizes(self) -> np.ndarray:
    """Bytes of each image's serialised record, int64 `[N]`."""
    names = np.fromiter((len(name.encode()) for name in self.images.names), np.int64, len(self))
    total = _entry_size("image", _bytes_size(np.asarray(self.images.sizes, np.int64)))
    total += _entry_size("file_name", _bytes_size(names))
    for feature, values in self.integers.items():
      total += _entry_size(feature, _integers_size(values))
    return _field_size(total)

  @functools.cached_property
  def shards(self) -> list[np.ndarray]:
    """The order, cut into files as TFDS cuts it."""
    number = shard_utils.ShardConfig().get_number_shards(
      int(self.record_sizes.sum()), len(self), uses_precise_sharding=True
    )
    ends = shard_utils.get_shard_boundaries(len(self), number)
    return np.split(self.order, ends[:-1])

  def example(self, index: int, image: bytes) -> dict[str, Any]:
    """An image's features, with its bytes."""
    integers = {feature: values[index] for feature, values in self.integers.items()}
    return {"image": image, "file_name": self.images.names[index], **integers}

  def digest(self, shard: np.ndarray) -> str:
    """SHA-256 of names, sizes and numbers of some images, in hexadecimal digits."""
    lines = (
      repr((self.images.names[index], self.images.sizes[index], *self._integers_of(index)))
      for index in shard
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

  def _integers_of(self, index: int) -> Iterator[Any]:
    for values in self.integers.values():
      value = values[index]
      yield list(map(int, value)) if isinstance(value, Sequence) else int(value)


def _varint_size(values: np.ndarray) -> np.ndarray:
  """Bytes of whole numbers, seven bits each; a negative one is a large one of 64 bits."""
  limits = np.uint64(1) << np.arange(7, 64, 7, dtype=np.uint64)
  return 1 + np.searchsorted(limits, values.astype(np.uint64), side="right")


def _field_size(sizes: np.ndarray) -> np.ndarray:
  """Bytes of a field whose contents have these sizes."""
  return _TAG + _varint_size(sizes) + sizes


def _bytes_size(sizes: np.ndarray) -> np.ndarray:
  """Of a Feature with a list of one string."""
  return _field_size(_field_size(sizes))


def _integers_size(values: Integers) -> np.ndarray:
  """Of a Feature with a list of whole numbers; an empty list has no field."""
  if len(values) and isinstance(values[0], Sequence):
    sizes = np.array([int(_varint_size(np.array(each, np.int64)).sum()) for each in values])
  else:
    sizes = _varint_size(np.asarray(values, np.int64))
  return _field_size(np.where(sizes > 0, _field_size(sizes), 0))


def _entry_size(name: str, feature_sizes: np.ndarray) -> np.ndarray:
  """Of an entry of the map from names to features."""
  return _field_size(_field_size(np.array(len(name.encode()))) + _field_size(feature_sizes))
