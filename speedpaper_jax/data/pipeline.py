"""Records → this host's rows of global batches, through Grain.

The position in the data is one integer, the number of examples seen: row i of the endless stream of
seed s is a pure function of (s, i). Batches only cut that stream, and hosts only cut the batches.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NotRequired, Protocol, TypedDict

import grain
import numpy as np

from speedpaper_jax.data import cores, distortions
from speedpaper_jax.data.augment import augment, augment_but_for_distortions
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.records import in_memory, name_of
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError, warn

# Enough rows to hide what a thread costs, few enough to spread a large batch over many threads.
_ROWS_PER_PART = 32
# Threads hold about one part each, and large hosts have hundreds; 144 crops of an image are 13 MB.
_BYTES_PER_PART = 2**25


class Crop(Protocol):
  """What evaluation does to an image, which becomes an array of `shape` and `dtype`."""

  @property
  def shape(self) -> tuple[int, ...]:
    """[..., size, size, 3]."""

  @property
  def dtype(self) -> type[np.generic]:
    """Of the pixels."""

  def __call__(self, image: bytes | np.ndarray, /) -> np.ndarray:
    """Takes an encoded image, or uint8 `[H, W, C]`."""


Row = dict[str, Any]  # a `Batch` without its first axis


class Batch(TypedDict):
  """One host's rows of a global batch.

  Attributes:
    image: RGB `[n, size, size, 3]`, uint8; in evaluation of the crop's shape and dtype.
    label: class numbers, int32 `[n]`.
    mask: float32 `[n]`; 1 is an example, 0 is padding or an image that cannot be decoded.
    distortion: int32 `[n, distortions.NUMBERS]`, of training where devices distort the images.
  """

  image: np.ndarray
  label: np.ndarray
  mask: np.ndarray
  distortion: NotRequired[np.ndarray]


def train_batches(
  split: Split,
  *,
  image_size: int,
  batch_size: int,
  seed: int,
  augmentation: Augmentation,
  distort_on_device: bool = False,
  start: int = 0,
  host_index: int = 0,
  host_count: int = 1,
) -> grain.DatasetIterator:
  """Endless training batches: every example once an epoch, in a new order each epoch.

  Batches cross the boundaries of epochs, so that none is short and no example is dropped.

  Args:
    split: the data.
    image_size: side of the images, in pixels.
    batch_size: rows of the global batch, over all hosts.
    seed: of the order and of the augmentation.
    augmentation: what is done to each image.
    distort_on_device: whether `distortions.on_device` is left to the caller; the pixels are the
      same.
    start: examples already seen over all hosts; any value costs the same.
    host_index: whose rows to return.
    host_count: hosts that share each batch; each reads a contiguous part of it.

  Returns:
    An iterator of `Batch` with a `close()` that stops its threads.

  Raises:
    UserError: the split is empty, the batch does not divide over the hosts, or the seed is no
      32-bit number; while iterating on one host, no image can be decoded.
  """
  rows = _rows_per_host(split, batch_size, host_count)
  if not 0 <= seed < 2**32:
    raise UserError(f"The seed is {seed}; give a whole number from 0 to 2³² − 1.")

  def example(index: int, rng: np.random.Generator) -> Row:
    numbers = distortions.none()

    def preprocess(image: bytes | np.ndarray) -> np.ndarray:
      if not distort_on_device:
        return augment(image, image_size, augmentation, rng)
      pixels, numbers[:] = augment_but_for_distortions(image, image_size, augmentation, rng)
      return pixels

    row = _example(split, index, (image_size, image_size, 3), np.uint8, preprocess)
    if distort_on_device:
      row["distortion"] = numbers
    # One host of several must not end alone; all of them count what is left out of each step.
    if host_count == 1 and len(split.undecodable) == len(split):
      raise UserError(f"None of the {len(split):,} images to train on can be decoded.")
    return row

  # Random transformations come before the hosts' cut: a row does not depend on who reads it.
  examples = order(split, seed).random_map(example)

  def row(index: int) -> Row:
    return examples[start + global_row(index, rows, host_index, host_count)]

  endless = sys.maxsize // (2 * batch_size) * rows
  row_bytes = image_size**2 * 3
  return _batches(grain.MapDataset.range(endless).map(row), rows, split, row_bytes)


def order(split: Split, seed: int) -> grain.MapDataset:
  """The numbers of the records in the training stream of a seed: element i is that of row i."""
  return grain.MapDataset.range(len(split)).seed(seed).shuffle().repeat()


def eval_batches(
  split: Split,
  *,
  crop: Crop,
  batch_size: int,
  start: int = 0,
  host_index: int = 0,
  host_count: int = 1,
) -> grain.DatasetIterator:
  """The whole split once, in its own order, in ceil((N - start) / batch_size) batches.

  The last batch is filled with rows of zero image, label and mask.

  Args:
    split: the data.
    crop: what is done to each image.
    batch_size: rows of the global batch, over all hosts.
    start: images that are passed over.
    host_index: whose rows to return.
    host_count: hosts that share each batch; each reads a contiguous part of it.

  Returns:
    An iterator of `Batch` with a `close()` that stops its threads.

  Raises:
    UserError: the split is empty, or the batch does not divide over the hosts.
  """
  rows = _rows_per_host(split, batch_size, host_count)

  def row(index: int) -> Row:
    position = start + global_row(index, rows, host_index, host_count)
    if position >= len(split):
      return _empty_example(crop.shape, crop.dtype)
    return _example(split, position, crop.shape, crop.dtype, crop)

  batches = math.ceil((len(split) - start) / batch_size)
  row_bytes = math.prod(crop.shape) * np.dtype(crop.dtype).itemsize
  return _batches(grain.MapDataset.range(batches * rows).map(row), rows, split, row_bytes)


def _example(
  split: Split,
  index: int,
  shape: tuple[int, ...],
  dtype: type[np.generic],
  preprocess: Callable[[bytes | np.ndarray], np.ndarray],
) -> Row:
  """One row of a batch; an empty one, with one warning, where the record is damaged."""
  try:
    record = split.records[index]
    image = preprocess(record["image"])
  except DecodeError as error:
    if index not in split.undecodable:
      split.undecodable[index] = str(error)
      warn(f"{name_of(split.records, index)} cannot be decoded and is left out: {error}")
    return _empty_example(shape, dtype)
  label = record["label"]
  if not 0 <= label < split.num_classes:
    name = name_of(split.records, index)
    raise UserError(
      f"{name[0].upper()}{name[1:]} has the label {label}, which is none of the "
      f"{split.num_classes} classes; choose a split with labels."
    )
  return {"image": image, "label": np.int32(label), "mask": np.float32(1)}


def _rows_per_host(split: Split, batch_size: int, host_count: int) -> int:
  if len(split) == 0:
    raise UserError("The split has no examples; choose another split.")
  if batch_size < 1 or batch_size % host_count:
    raise UserError(
      f"A batch of {batch_size} does not divide over {host_count} hosts; "
      f"give a positive multiple of {host_count}."
    )
  return batch_size // host_count


def global_row(index: int, rows: int, host_index: int, host_count: int) -> int:
  """Where row `index` of a host, which has `rows` of each batch, stands in the global stream."""
  batch, row = divmod(index, rows)
  return (batch * host_count + host_index) * rows + row


def _empty_example(shape: tuple[int, ...], dtype: type[np.generic]) -> Row:
  image = np.zeros(shape, dtype)
  return {"image": image, "label": np.int32(0), "mask": np.float32(0)}


def _batches(
  rows: grain.MapDataset, batch_size: int, split: Split, row_bytes: int
) -> grain.DatasetIterator:
  # Threads, not Grain's worker processes: those make a fifth fewer images of the same processor
  # time, in three times the memory. Threads make parts of a batch: whole batches where they are
  # small, many threads on large ones; no more is in memory than what they work on and two batches.
  part = math.gcd(batch_size, _ROWS_PER_PART)
  while part % 2 == 0 and part * row_bytes > _BYTES_PER_PART:
    part //= 2
  parts = batch_size // part
  # Where the work is a few microseconds of Python a row, more threads only wait for each other.
  threads = 1 if in_memory(split.records) else cores.usable()
  read_options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2 * parts)
  batches = rows.batch(part).to_iter_dataset(read_options)
  if parts > 1:
    batches = batches.batch(parts, batch_fn=_concatenate)
  iterator = iter(batches)
  iterator.start_prefetch()  # the first batch is made while the caller compiles
  return iterator


def _concatenate(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
