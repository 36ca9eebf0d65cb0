"""Images are written as TFDS writes them; what was stopped goes on and ends with the same bytes."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import sys

import made_up_imagenet
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from commands import finish, start
from tensorflow_datasets.core import file_adapters
from tensorflow_datasets.core.utils import shard_utils

from speedpaper_jax.data import array_record_writing, imagenet_originals
from speedpaper_jax.data.original_files import OriginalFiles
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import lock

TRAIN = made_up_imagenet.train_images(made_up_imagenet.CLASSES[:100], each=2)
VALIDATED = made_up_imagenet.validation_images(7)
FILES = 32  # of the split "train", where a file has 4 KiB or more; one of "validation"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  directory = tmp_path_factory.mktemp("source")
  made_up_imagenet.write(directory, TRAIN, VALIDATED)
  return directory


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
  monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", 4096)


def builder_in(root):
  return tfds.builder("imagenet2012", data_dir=root, file_format="array_record")


def write(root, source):
  builder = builder_in(root)
  with contextlib.ExitStack() as stack:
    stack.enter_context(array_record_writing.alone(builder))
    files = OriginalFiles(source, root / "unpacked.tar", stack)
    splits = imagenet_originals.read("imagenet2012", files).splits
    return array_record_writing.write(builder, splits)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, source):
  """What a call that nobody stops writes."""
  root = tmp_path_factory.mktemp("expected")
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", 4096)
    assert write(root, source) == (0, FILES + 1, [])
  return root


def directory_of(root):
  return root / "imagenet2012" / "5.1.0"


def expect_the_same(root, expected):
  assert made_up_imagenet.files_of(directory_of(root)) == made_up_imagenet.files_of(
    directory_of(expected)
  )
  assert [path.name for path in directory_of(root).parent.iterdir()] == ["5.1.0"]


def growing(root):
  return root / "imagenet2012" / "incomplete.5.1.0"


def stop(root, source, files, error=KeyboardInterrupt):
  """Has the writing of another file than the first ones fail, when half of it is written."""
  write_examples = file_adapters.ArrayRecordFileAdapter.write_examples
  count = itertools.count()

  def write_some(path, records):
    if next(count) < files:
      return write_examples(path, records)
    write_examples(path, itertools.islice(records, 2))
    raise error

  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(file_adapters.ArrayRecordFileAdapter, "write_examples", write_some)
    write(root, source)


def test_plain_tfds_reads_it_in_the_order_of_the_hashes(expected):
  builder = tfds.builder("imagenet2012", data_dir=expected)
  assert builder.__module__.startswith("tensorflow_datasets.datasets.")
  stored = tfds.builder_from_directory(directory_of(expected))
  names = builder.info.features["label"].names
  labels = made_up_imagenet.VALIDATION
  of_splits = {
    "train": {n: (label, data) for label, images in TRAIN.items() for n, data in images.items()},
    "validation": {n: (labels[index], data) for index, (n, data) in enumerate(VALIDATED.items())},
  }
  for split, originals in of_splits.items():
    order = sorted(originals, key=lambda n: hashlib.md5((split + n).encode()).digest())
    for of in (builder, stored):
      records = of.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
      found = [(r["file_name"].decode(), (names[r["label"]], r["image"])) for r in records]
      assert found == [(name, originals[name]) for name in order]
  lengths = builder.info.splits["train"].shard_lengths
  assert (len(lengths), sum(lengths), max(lengths) - min(lengths)) == (FILES, 200, 1)


def test_the_description_is_tfds_s_own(expected, tmp_path):
  stored, plain = tfds.builder_from_directory(directory_of(expected)), builder_in(tmp_path)
  for attribute in ("full_name", "description", "citation", "homepage", "supervised_keys"):
    assert getattr(stored.info, attribute) == getattr(plain.info, attribute)
  assert repr(stored.info.features) == repr(plain.info.features)


def test_each_record_is_a_group_of_its_own(expected):
  path = next(directory_of(expected).glob("*train*-00003-of-*"))
  reader = array_record_module.ArrayRecordReader(os.fspath(path))
  assert re.search(r"group_size:1\b", reader.writer_options_string())
  reader.close()


@pytest.mark.parametrize("files", [0, 1, 20, FILES])
def test_what_is_interrupted_goes_on(tmp_path, source, expected, monkeypatch, files):
  with pytest.raises(KeyboardInterrupt):
    stop(tmp_path, source, files)
  assert not directory_of(tmp_path).exists()
  kept = {p: p.stat().st_mtime_ns for p in growing(tmp_path).glob("imagenet2012-*")}
  assert len(kept) == files
  with monkeypatch.context() as context:
    os_rename = pathlib.Path.rename
    renamed = []
    context.setattr(
      pathlib.Path, "rename", lambda path, to: renamed.append(path.name) or os_rename(path, to)
    )
    assert write(tmp_path, source) == (files, FILES + 1, [])
  assert len(renamed) == FILES + 1 - files + 1  # the rest, and then the directory
  expect_the_same(tmp_path, expected)


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from tensorflow_datasets.core import file_adapters
from tensorflow_datasets.core.utils import shard_utils
from speedpaper_jax.data import prepare
shard_utils.ShardConfig.min_shard_size = 4096
adapter = file_adapters.ArrayRecordFileAdapter
write_examples, calls = adapter.write_examples, []
def write_some(path, records):
  calls.append(path)
  write_examples(path, records)
  if len(calls) == {calls}:
    os.kill(os.getpid(), signal.SIGKILL)
adapter.write_examples = write_some
prepare.main(prepare.parse(sys.argv))
"""


def test_what_is_killed_goes_on_by_the_same_command(scratch, tmp_path, source, expected):
  arguments = ("imagenet2012", f"--from={source}", f"--data_dir={tmp_path}", "--incomplete")
  for calls, status in ((5, -signal.SIGKILL), (9, -signal.SIGKILL), (-1, 0)):
    program = KILLED.format(path=sys.path, calls=calls)
    ended, _, errors = finish(start(scratch, "-c", program, *arguments))
    assert ended == status, errors
  assert f"Note: 12 of {FILES + 1} files were whole from an earlier call." in errors
  expect_the_same(tmp_path, expected)


def test_only_what_is_whole_and_of_these_images_is_kept(
  tmp_path, source, expected, monkeypatch, capsys
):
  with pytest.raises(KeyboardInterrupt):
    stop(tmp_path, source, 10)
  files = sorted(growing(tmp_path).glob("imagenet2012-train*"))
  os.truncate(files[0], 1000)
  content = files[1].read_bytes()
  files[1].write_bytes(bytes(len(content)))
  shutil.copy(files[3], files[2])
  files[4].unlink()
  with growing(tmp_path).with_name("incomplete.5.1.0.jsonl").open("ab") as journal:
    journal.write(b'{"file": "imagenet2012-tra')  # a line that was not written to its end
  assert write(tmp_path, source).kept == 6
  message = (
    "Note: 3 files of an earlier call were of other images or damaged, and are written again."
  )
  assert message in capsys.readouterr().err
  expect_the_same(tmp_path, expected)


def test_of_another_source_only_files_of_the_same_images_are_kept(
  tmp_path, source, expected, monkeypatch
):
  other = tmp_path / "other"
  made_up_imagenet.write(other, dict(list(TRAIN.items())[:90]), VALIDATED)
  with pytest.raises(KeyboardInterrupt):
    stop(tmp_path / "root", other, 10)
  assert write(tmp_path / "root", source).kept < 5
  expect_the_same(tmp_path / "root", expected)


NO_SPACE = "no space is left on the disk); make room,"


@pytest.mark.parametrize(
  ("error", "reason"),
  [
    (OSError(errno.ENOSPC, "No space left on device"), NO_SPACE),
    (
      RuntimeError("INTERNAL: No space left\nand more"),
      NO_SPACE,
    ),
    (PermissionError(errno.EACCES, "Permission denied"), "Permission denied); mend that,"),
  ],
)
def test_what_cannot_be_written_is_told_and_goes_on(
  tmp_path, source, expected, monkeypatch, error, reason
):
  message = (
    f"{growing(tmp_path)} cannot be written ({reason} and the same command goes on with the files "
    "that are whole, or name another directory with --data_dir."
  )
  with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
    stop(tmp_path, source, 3, error)
  assert write(tmp_path, source).kept == 3
  expect_the_same(tmp_path, expected)


def test_too_little_room_is_told_before_anything_is_written(tmp_path, source, monkeypatch):
  usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  message = f"The data set needs 0.0 GB more in {tmp_path}/imagenet2012, and 0.0 GB are free;"
  with pytest.raises(UserError, match=re.escape(message)):
    write(tmp_path, source)
  assert not list(tmp_path.rglob("*array_record*"))


def test_the_room_that_is_asked_for_is_enough_and_hardly_more(tmp_path, source, monkeypatch):
  """Nearly: of small files the filling up to whole blocks is the larger part."""
  asked = []
  monkeypatch.setattr(
    shutil, "disk_usage", lambda path: asked.append(path) or os_usage._replace(free=2**40)
  )
  os_usage = shutil._ntuple_diskusage(0, 0, 0)
  write(tmp_path, source)
  taken = sum(path.stat().st_size for path in directory_of(tmp_path).glob("*array_record*"))
  for free, fails in ((taken - 1, True), (2 * taken, False)):
    root = tmp_path / str(free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: os_usage._replace(free=free))
    with pytest.raises(UserError) if fails else contextlib.nullcontext():
      write(root, source)


def test_one_process_writes_at_a_time(tmp_path, source):
  (tmp_path / "imagenet2012").mkdir()
  with lock.held(tmp_path / "imagenet2012"):
    message = f"Another process writes '{tmp_path}/imagenet2012' .* choose another --data_dir"
    with pytest.raises(UserError, match=message):
      write(tmp_path, source)


def test_part_of_a_data_set_is_not_written_over(tmp_path, source):
  directory_of(tmp_path).mkdir(parents=True)
  message = f"{directory_of(tmp_path)} is not a whole data set; remove it and prepare it again."
  with pytest.raises(UserError, match=re.escape(message)):
    write(tmp_path, source)


def test_nothing_is_left_where_the_originals_are_not_there(tmp_path):
  with pytest.raises(UserError, match="has neither"):
    write(tmp_path, tmp_path)
  assert not list(tmp_path.iterdir())


def test_files_that_are_no_images_are_kept_and_named_also_after_an_interruption(
  tmp_path, monkeypatch
):
  images = {"n01440764": {f"n01440764_{n}.JPEG": b"text" for n in range(3)}}
  made_up_imagenet.write(tmp_path / "source", TRAIN | images, None)
  with pytest.raises(KeyboardInterrupt):
    stop(tmp_path / "root", tmp_path / "source", 25)
  written = write(tmp_path / "root", tmp_path / "source")
  assert sorted(written.not_images) == sorted(images["n01440764"])
  record = next(
    record
    for record in builder_in(tmp_path / "root").as_data_source(
      "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    if record["file_name"] == b"n01440764_0.JPEG"
  )
  assert record["image"] == b"text"


def test_an_image_that_cannot_be_read_ends_it_and_keeps_what_is_whole(
  tmp_path, source, expected, monkeypatch
):
  read = imagenet_originals.Tar.read
  calls = itertools.count()

  def fail_once(archive, position, size):
    if next(calls) == 60:
      raise UserError("the disk is broken")
    return read(archive, position, size)

  with monkeypatch.context() as context:
    context.setattr(imagenet_originals.Tar, "read", fail_once)
    with pytest.raises(UserError, match="the disk is broken"):
      write(tmp_path, source)
  assert write(tmp_path, source).kept > 0
  expect_the_same(tmp_path, expected)


def test_the_journal_is_lines_of_json(tmp_path, source, monkeypatch):
  with pytest.raises(KeyboardInterrupt):
    stop(tmp_path, source, 2)
  lines = growing(tmp_path).with_name("incomplete.5.1.0.jsonl").read_text().split("\n")
  entries = [json.loads(line) for line in lines if line]
  assert [entry.keys() for entry in entries] == [{"file", "bytes", "digest", "not_images"}] * 2
