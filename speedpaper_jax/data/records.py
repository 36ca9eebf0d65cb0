"""Random-access records of images and labels, and the ones of a prepared data set."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from speedpaper_jax.data.decode import DecodeError, decode, open_image

# Digits, MNIST and CIFAR fit decoded; then only their first epoch costs reading and decoding.
_KEPT_BYTES = 256 * 2**20


class Records(Protocol):
  """`records[i]` is `{"image": encoded bytes or uint8 [H, W, C], "label": int}`.

  A damaged record raises `decode.DecodeError`, here or when its image is decoded.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int, /) -> dict[str, Any]: ...


class Source(Records, Protocol):
  """Records that can be named, and distinguished from those of another source."""

  def name(self, index: int, /) -> str:
    """What a record is called in a sentence to the user, such as "the image 'ants/1.jpg'"."""

  def short_name(self, index: int, /) -> str:
    """What a record is called in a table."""

  def file_name(self, index: int, /) -> str | None:
    """The name of the file that a record was, without folders; None where that is not known."""

  def labels(self) -> Sequence[int] | None:
    """Of all records, where they are known without reading these."""

  def digest(self) -> str:
    """SHA-256 of which files the records are, in hexadecimal digits; no file is read for it."""


class ArrayRecordSource:
  """Undecoded records of a split that TFDS has prepared."""

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
    # Large images can then be decoded at the scale that their crop needs.
    decoders = {"image": tfds.decode.SkipDecoding()}
    self._records = builder.as_data_source(split, decoders=decoders)
    self._data_set = builder.info.full_name
    self._has_file_names = "file_name" in builder.info.features
    self._num_bytes = builder.info.dataset_size
    self._split = split
    self._parts = builder.info.splits[split].file_instructions

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    try:
      record: dict[str, Any] = self._records[index]
    except RuntimeError as error:  # ArrayRecord's word for a wrong hash
      raise DecodeError(str(error)) from error
    if record["image"] is None:  # ArrayRecord's word for what the file system does not give it
      raise DecodeError("it cannot be read")
    return record

  def name(self, index: int) -> str:
    """Names the data set and the split, as images have no names there."""
    return f"record {index} of the split '{self._split}' of {self._data_set}"

  def short_name(self, index: int) -> str:
    """Its number in the split."""
    return f"record {index}"

  def file_name(self, index: int) -> str | None:
    """Of data sets with such a feature, as "imagenet2012" has; the record is read for it."""
    if not self._has_file_names:
      return None
    try:
      return os.fsdecode(self[index]["file_name"])
    except DecodeError:
      return None

  def labels(self) -> None:
    """They are in the records."""

  def digest(self) -> str:
    """Of the files' names and sizes, the records' own size, and which of them are in the split."""
    # Files are filled up to whole blocks, so that their sizes alone say little of a small data set.
    return digest_of(
      (
        os.path.basename(part.filename),
        os.path.getsize(part.filename),
        self._num_bytes,
        part.skip,
        part.take,
      )
      for part in self._parts
    )


class PreparedRecords:
  """Records of a source; small images are decoded once and kept in memory."""

  def __init__(self, source: Source) -> None:
    self._source = source
    self._kept_image_bytes = _KEPT_BYTES // max(len(source), 1)
    self._kept: dict[int, dict[str, Any]] = {}

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    if (kept := self._kept.get(index)) is not None:
      return kept
    record = self._source[index]
    with contextlib.suppress(DecodeError):  # raised again by whoever decodes the bytes
      if self._is_small(record["image"]):
        record = self._kept[index] = {**record, "image": decode(record["image"])}
    return record

  def name(self, index: int) -> str:
    """As the source says."""
    return self._source.name(index)

  def short_name(self, index: int) -> str:
    """As the source says."""
    return self._source.short_name(index)

  def file_name(self, index: int) -> str | None:
    """As the source says."""
    return self._source.file_name(index)

  def labels(self) -> Sequence[int] | None:
    """As the source says."""
    return self._source.labels()

  def digest(self) -> str:
    """As the source says."""
    return self._source.digest()

  def _is_small(self, image: bytes) -> bool:
    """Whether a data set of such images would fit in memory decoded."""
    if len(image) > self._kept_image_bytes:  # spares large data sets the look at the header
      return False
    opened = open_image(image)
    return opened.width * opened.height * len("RGB") <= self._kept_image_bytes


def in_memory(records: Records) -> bool:
  """Tells whether reading costs next to nothing, going by the first record."""
  try:
    return isinstance(records[0]["image"], np.ndarray)
  except DecodeError:
    return False


def name_of(records: Records, index: int) -> str:
  """What a record is called in a sentence; by its number, where records have no names."""
  return records.name(index) if hasattr(records, "name") else f"record {index}"


def digest_of(entries: Iterable[tuple[str | int, ...]]) -> str:
  """SHA-256 of a list, whatever its order, in hexadecimal digits."""
  lines = sorted(json.dumps(entry) for entry in entries)
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()
