"""Writes images as TFDS's builders would, without TensorFlow, and goes on where it was stopped.

The data set grows in a directory beside its own, and is renamed when it is whole. Each file in it
is written under another name, renamed when it is whole, and then entered in a journal, a line for
each: what was killed goes on with the next file. In memory are the images of two files.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module

# What TFDS's own writer calls, which needs TensorFlow itself; there is no public way to them.
from tensorflow_datasets.core import dataset_builder, example_serializer, file_adapters

from speedpaper_jax.data import paths, store
from speedpaper_jax.data.image_index import Split
from speedpaper_jax.errors import UserError, inform
from speedpaper_jax.files import lock

_READERS = 16  # threads: a disk or a server answers several questions in hardly more time than one
# Of ArrayRecord: at most so many bytes beside the records, for each of these and for each file.
_BYTES_A_RECORD = 256
_BYTES_A_FILE = 3 * 2**16
_INCOMPLETE = "incomplete."  # TFDS's own prefix, which it never takes for data
_HEADS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
_EXAMPLES = 3  # that a sentence names


class _Shard(NamedTuple):
  """A file of a split.

  Attributes:
    split: whose file it is.
    file: its name.
    images: numbers in the split, in order.
    digest: of which images they are.
  """

  split: Split
  file: str
  images: np.ndarray
  digest: str


class Written(NamedTuple):
  """What was done.

  Attributes:
    kept: files that were there from a call before.
    files: all of the data set.
    not_images: names of files that do not begin as images do.
  """

  kept: int
  files: int
  not_images: list[str]


def unfinished(builder: tfds.core.DatasetBuilder) -> pathlib.Path:
  """The directory in which a data set grows."""
  directory = pathlib.Path(builder.data_dir)
  return directory.with_name(_INCOMPLETE + directory.name)


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
  """Tells whether the data set is there; only whole ones are renamed into their place."""
  return paths.is_file(pathlib.Path(builder.data_dir) / "dataset_info.json")


@contextlib.contextmanager
def alone(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
  """Keeps other processes from preparing the same data set.

  Raises:
    UserError: the directory cannot be written, holds part of a data set, or another process is at
      work.
  """
  directory = pathlib.Path(builder.data_dir)
  with _writable(directory):
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
      with lock.held(directory.parent, flag="--data_dir"):
        if os.path.lexists(directory) and not is_prepared(builder):
          raise UserError(f"{directory} is not a whole data set; remove it and prepare it again.")
        yield
    finally:
      with contextlib.suppress(OSError):  # where something is in it
        directory.parent.rmdir()


def write(builder: tfds.core.DatasetBuilder, splits: Sequence[Split]) -> Written:
  """Writes a data set into its directory, or what a call before has not yet written.

  Args:
    builder: TFDS's, of a data set that is not prepared; its info gets the splits.
    splits: in TFDS's order.

  Raises:
    UserError: there is no room, the directory cannot be written, or an image cannot be read. What
      is whole is kept.
  """
  directory = unfinished(builder)
  shards = [shard for split in splits for shard in _shards(builder, split)]
  with _writable(directory):
    directory.mkdir(parents=True, exist_ok=True)
    journal = _Journal(directory.with_name(f"{directory.name}.jsonl"))
    writer = _Writer(builder, directory, journal)
    whole = [shard for shard in shards if writer.is_whole(shard)]
    _remove_others(directory, whole)
    _check_room(directory, shards, whole)
    writer.write(shards, whole)
    _finish(builder, splits, directory)
    not_images = [name for shard in shards for name in journal.not_images(shard)]
    journal.remove()
  return Written(len(whole), len(shards), not_images)


def _shards(builder: tfds.core.DatasetBuilder, split: Split) -> Iterator[_Shard]:
  template = _template(builder, split)
  for number, images in enumerate(split.shards):
    path = template.sharded_filepath(shard_index=number, num_shards=len(split.shards))
    yield _Shard(split, path.name, images, split.digest(images))


def _template(builder: tfds.core.DatasetBuilder, split: Split) -> tfds.core.ShardedFileTemplate:
  return tfds.core.ShardedFileTemplate(
    data_dir=builder.data_dir,
    dataset_name=builder.name,
    split=split.name,
    filetype_suffix=file_adapters.FileFormat.ARRAY_RECORD.file_suffix,
  )


class _Journal:
  """The files that are whole, a line for each; kept beside the directory, which is TFDS's alone."""

  def __init__(self, path: pathlib.Path) -> None:
    self._path = path
    self._entries: dict[str, dict[str, Any]] = {}
    if path.exists():
      for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # the last one, cut off
          entry = json.loads(line)
          self._entries[entry["file"]] = entry

  def has(self, shard: _Shard, size: int) -> bool:
    """Whether it was entered as it is."""
    entry = self._entries.get(shard.file, {})
    return (entry.get("digest"), entry.get("bytes")) == (shard.digest, size)

  def not_images(self, shard: _Shard) -> list[str]:
    """Names that were entered with it."""
    return list(self._entries[shard.file]["not_images"])

  def enter(self, shard: _Shard, size: int, not_images: list[str]) -> None:
    entry = {
      "file": shard.file,
      "bytes": size,
      "digest": shard.digest,
      "not_images": not_images,
    }
    with self._path.open("ab") as file:
      # On a line of its own, whatever was cut off before it.
      file.write(b"\n" + json.dumps(entry).encode() + b"\n")
      file.flush()
      os.fsync(file.fileno())
    self._entries[shard.file] = entry

  def remove(self) -> None:
    self._path.unlink(missing_ok=True)


class _Writer:
  """Writes the files of a data set."""

  def __init__(
    self, builder: tfds.core.DatasetBuilder, directory: pathlib.Path, journal: _Journal
  ) -> None:
    self._name = builder.info.full_name
    self._features = builder.info.features
    self._serializer = example_serializer.ExampleSerializer(self._features.get_serialized_info())
    self._directory = directory
    self._journal = journal

  def is_whole(self, shard: _Shard) -> bool:
    """Whether a file is there as it was entered; its first and last record are compared."""
    path = self._directory / shard.file
    if not path.is_file() or not self._journal.has(shard, path.stat().st_size):
      return False
    try:
      reader = array_record_module.ArrayRecordReader(os.fspath(path))
      number = reader.num_records()
      ends = reader.read([0, number - 1]) if number == len(shard.images) else []
      reader.close()
    except (RuntimeError, ValueError, IndexError):  # ArrayRecord's, for what is none of its files
      return False
    images = shard.split.images
    expected = [int(shard.images[0]), int(shard.images[-1])]
    return ends == [self._record(shard, index, images.read(index)) for index in expected]

  def write(self, shards: Sequence[_Shard], whole: Sequence[_Shard]) -> None:
    """Writes the files that are not whole; the next one's images are read meanwhile."""
    files = {shard.file for shard in whole}
    pending = [shard for shard in shards if shard.file not in files]
    total = sum(len(shard.images) for shard in shards)
    with (
      concurrent.futures.ThreadPoolExecutor(_READERS) as readers,
      concurrent.futures.ThreadPoolExecutor(1) as ahead,
      tqdm.tqdm(
        total=total,
        initial=total - sum(len(shard.images) for shard in pending),
        desc=f"Writing {self._name}",
        unit=" images",
        leave=False,
        mininterval=1,
      ) as bar,
    ):
      coming = None
      try:
        for shard, following in zip(pending, [*pending[1:], None], strict=True):
          images = coming.result() if coming else _read(shard, readers)
          coming = ahead.submit(_read, following, readers) if following else None
          self._write(shard, images)
          bar.update(len(shard.images))
      finally:
        readers.shutdown(wait=False, cancel_futures=True)

  def _write(self, shard: _Shard, images: dict[int, bytes]) -> None:
    path = self._directory / shard.file
    temporary = path.with_name(_INCOMPLETE + path.name)
    order = shard.images.tolist()
    records = ((index, self._record(shard, index, images[index])) for index in order)
    # TFDS's own writing, in groups of one record, which makes every record as fast to reach.
    file_adapters.ArrayRecordFileAdapter.write_examples(temporary, records)
    with temporary.open("rb") as file:
      os.fsync(file.fileno())
      size = os.fstat(file.fileno()).st_size
    temporary.rename(path)
    not_images = [
      shard.split.images.names[index] for index in order if not images[index].startswith(_HEADS)
    ]
    self._journal.enter(shard, size, not_images)

  def _record(self, shard: _Shard, index: int, image: bytes) -> bytes:
    example = self._features.encode_example(shard.split.example(index, image))
    # TFDS leaves the order of the features to chance; in one order files are the same each time.
    record = self._serializer.get_tf_example(example).SerializeToString(deterministic=True)
    expected = shard.split.record_sizes[index]
    if len(record) != expected:
      raise AssertionError(f"a record has {len(record)} bytes, not {expected}")
    return bytes(record)


def _read(shard: _Shard, readers: concurrent.futures.Executor) -> dict[int, bytes]:
  """The images of a file; in the order in which they lie on the disk."""
  images = shard.split.images
  in_place = sorted(shard.images.tolist(), key=images.place)
  return dict(zip(in_place, readers.map(images.read, in_place), strict=True))


def _remove_others(directory: pathlib.Path, whole: Sequence[_Shard]) -> None:
  """Removes what was being written, and what is of other images or was damaged."""
  files = {shard.file for shard in whole}
  others = [path for path in directory.iterdir() if path.name not in files]
  for path in others:
    path.unlink()
  damaged = [path for path in others if not path.name.startswith(_INCOMPLETE)]
  if damaged:
    inform(
      f"Note: {len(damaged):,} files of an earlier call were of other images or damaged, and are "
      "written again."
    )


def _check_room(directory: pathlib.Path, shards: Sequence[_Shard], whole: Sequence[_Shard]) -> None:
  files = {shard.file for shard in whole}
  needed = 0
  for shard in shards:
    if shard.file not in files:
      sizes = shard.split.record_sizes[shard.images] + _BYTES_A_RECORD
      needed += int(sizes.sum()) + _BYTES_A_FILE
  free = shutil.disk_usage(directory).free
  if needed > free:
    raise UserError(
      f"The data set needs {needed / 1e9:.1f} GB more in {directory.parent}, and {free / 1e9:.1f} "
      "GB are free; make room there, or name another directory with --data_dir."
    )


def _finish(
  builder: tfds.core.DatasetBuilder, splits: Sequence[Split], directory: pathlib.Path
) -> None:
  infos = [
    tfds.core.SplitInfo(
      name=split.name,
      shard_lengths=[len(images) for images in split.shards],
      num_bytes=int(split.record_sizes.sum()),  # TFDS counts the records alone
      filename_template=_template(builder, split),
    )
    for split in splits
  ]
  builder.info.set_splits(tfds.core.SplitDict(infos))
  builder.info.write_to_directory(directory)
  if default := builder.get_default_builder_config():
    # As TFDS does for who opens the data set without naming a configuration.
    dataset_builder._save_default_config_name(
      common_dir=builder.data_path.parent.parent, default_config_name=default.name
    )
  directory.rename(builder.data_dir)


@contextlib.contextmanager
def _writable(directory: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except (OSError, RuntimeError) as error:  # the latter are ArrayRecord's
    remedy = "make room" if paths.is_full(error) else "mend that"
    raise UserError(
      f"{directory} cannot be written ({store.reason(error)}); {remedy}, and the same command goes "
      "on with the files that are whole, or name another directory with --data_dir."
    ) from error
