"""Random-access records of images and labels, and the ones of a prepared data set."""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from speedpaper_jax.data.decode import DecodeError, decode, open_image

# Digits, MNIST and CIFAR fit decoded; then only their first epoch costs reading and decoding.
_KEPT_BYTES = 256 * 2**20


class Records(Protocol):
  """`records[i]` is `{"image": encoded bytes or uint8 [H, W, C], "label": int}`.

  A damaged record raises `decode.DecodeError`, here or when its image is decoded.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int, /) -> dict[str, Any]: ...


class PreparedRecords:
  """Records of an ArrayRecord source; small images are decoded once and kept in memory."""

  def __init__(self, source: Sequence[dict[str, Any]]) -> None:
    self._source = source
    self._kept_image_bytes = _KEPT_BYTES // max(len(source), 1)
    self._kept: dict[int, dict[str, Any]] = {}

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    if (kept := self._kept.get(index)) is not None:
      return kept
    try:
      record = self._source[index]
    except RuntimeError as error:  # ArrayRecord's word for a wrong hash
      raise DecodeError(str(error)) from error
    with contextlib.suppress(DecodeError):  # raised again by whoever decodes the bytes
      if self._is_small(record["image"]):
        record = self._kept[index] = {**record, "image": decode(record["image"])}
    return record

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
