"""Data sets by name: what can be read is read, and what cannot is told in one sentence."""

import errno
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import samples
import tensorflow_datasets as tfds
from PIL import Image

from speedpaper_jax.data import records
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.data.store import DataSet, store
from speedpaper_jax.errors import UserError


def write(root, name="colours", version="1.0.0", count=10, size=4):
  """Prepares images of one colour: image i is (i, i, i), its label i % 2."""
  data_set = DataSet(
    name=name,
    version=version,
    image_shape=(size, size, 3),
    num_classes=2,
    description="Images of one colour.",
    homepage="https://example.org",
    citation="",
  )
  examples = [
    {"image": np.full((size, size, 3), index, np.uint8), "label": index % 2}
    for index in range(count)
  ]
  splits = {"train": examples, "test": examples[:3]}
  store(data_set, root, splits, {"label": ["even", "odd"]})
  return data_set.directory(root)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp("prepared")
  write(root)
  return root


@pytest.fixture
def damageable(prepared, tmp_path):
  shutil.copytree(prepared, tmp_path / "root")
  return tmp_path / "root"


def values(split):
  return sorted(int(split.records[index]["image"][0, 0, 0]) for index in range(len(split)))


def expect_error(message, *arguments):
  with pytest.raises(UserError, match=re.escape(message)) as raised:
    open_split(*map(str, arguments))
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["colours", "digits", "imagenet2012"])
def test_a_seed_of_the_split_is_refused_because_the_splits_are_the_data_set_s_own(prepared, name):
  message = (
    "config.data.split_seed is 3 and belongs to the data set 'folder'; the splits of "
    f"'{name}' are its own, so leave it at 0."
  )
  with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
    open_split(name, "train", str(prepared), 3)


@pytest.mark.parametrize(
  ("split", "count"),
  [("train", 10), ("test", 3), ("train[:80%]", 8), ("train[80%:]", 2), ("train[2:5]", 3)],
)
def test_any_split_expression_is_read(prepared, split, count):
  assert len(open_split("colours", split, str(prepared))) == count


def test_the_parts_of_a_split_make_it_up(prepared):
  parts = [open_split("colours", part, str(prepared)) for part in ("train[:30%]", "train[30%:]")]
  assert sorted(values(parts[0]) + values(parts[1])) == list(range(10))


def test_images_keep_their_labels_and_classes_their_names(prepared):
  split = open_split("colours", "train", str(prepared))
  for index in range(len(split)):
    record = split.records[index]
    assert record["image"].shape == (4, 4, 3)
    assert record["label"] == record["image"][0, 0, 0] % 2
  assert (split.num_classes, split.class_names) == (2, ("even", "odd"))


def test_small_images_are_decoded_once(prepared):
  split = open_split("colours", "train", str(prepared))
  assert split.records[0]["image"] is split.records[0]["image"]


def test_images_that_would_not_fit_in_memory_stay_encoded(prepared, monkeypatch):
  monkeypatch.setattr(records, "_KEPT_BYTES", 10 * 4 * 4 * 3 - 1)
  image = open_split("colours", "train", str(prepared)).records[0]["image"]
  assert Image.open(io.BytesIO(image)).size == (4, 4)


def test_the_newest_version_is_read_unless_one_is_named(damageable):
  write(damageable, version="1.10.0", count=4)
  write(damageable, version="1.9.0", count=5)
  assert len(open_split("colours", "train", str(damageable))) == 4
  assert len(open_split("colours:1.9.0", "train", str(damageable))) == 5
  expect_error(
    "has no version 2.0.0; name one of 1.0.0, 1.9.0, 1.10.0, or none.",
    *("colours:2.0.0", "train", damageable),
  )


def test_a_configuration_is_read_by_its_name(damageable):
  write(damageable / "corrupted", name="blur")
  assert len(open_split("corrupted/blur", "train", str(damageable))) == 10
  expect_error(
    "'corrupted' has configurations; name one of those prepared: 'corrupted/blur'.",
    *("corrupted", "train", damageable),
  )


def test_what_a_killed_process_left_behind_is_not_read(damageable):
  """TFDS writes the data and even their description under another name, then renames."""
  directory = damageable / "colours"
  (directory / "1.0.0").rename(directory / "incomplete.ABC123_1.0.0")
  expect_error("There is no data set 'colours'", "colours", "train", damageable)
  write(damageable)
  assert len(open_split("colours", "train", str(damageable))) == 10


class TestDigest:
  """What a run remembers of its data: which files, how large, and which records of them."""

  def digest(self, root, split="train"):
    return open_split("colours", split, str(root)).records.digest()

  def test_is_the_same_wherever_the_data_set_is(self, prepared, damageable):
    assert self.digest(damageable) == self.digest(prepared)

  def test_is_that_of_the_records_and_not_of_the_expression(self, prepared):
    assert self.digest(prepared, "train[:80%]") == self.digest(prepared, "train[0:8]")

  def test_other_records_have_another(self, prepared):
    splits = ("train", "test", "train[:80%]", "train[80%:]", "train[:8]+test")
    assert len({self.digest(prepared, split) for split in splits}) == len(splits)

  def test_files_of_another_size_have_another(self, prepared, tmp_path):
    write(tmp_path, count=11)
    assert self.digest(tmp_path, "train[:10]") != self.digest(prepared)


def test_labels_are_in_the_records(prepared):
  assert open_split("colours", "train", str(prepared)).class_counts() is None


def test_a_record_is_named_by_its_data_set_and_split(prepared):
  split = open_split("colours", "train[:5]", str(prepared))
  assert split.records.name(3) == "record 3 of the split 'train[:5]' of colours/1.0.0"


def test_plain_tfds_reads_what_is_stored(prepared):
  builder = tfds.builder("colours", data_dir=prepared)
  assert builder.info.full_name == "colours/1.0.0"
  (source,) = builder.as_data_source(["test"])
  assert sorted((example["image"][0, 0, 0], example["label"]) for example in source) == [
    (0, 0),
    (1, 1),
    (2, 0),
  ]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_what_is_not_prepared_names_the_command(tmp_path, name):
  expect_error(
    f"The data set '{name}' is not prepared in {tmp_path}; "
    f"run `python -m speedpaper_jax.data.prepare {name} --data_dir={tmp_path}`.",
    *(name, "train", tmp_path),
  )


@pytest.mark.parametrize(
  ("name", "named"),
  [
    ("imagenet2012:5.1.0", "imagenet2012"),
    ("imagenet_v2/topimages", "imagenet_v2/topimages"),
  ],
)
def test_what_is_prepared_from_files_of_one_s_own_names_the_command_too(tmp_path, name, named):
  command = f"python -m speedpaper_jax.data.prepare {named} --from=DIR --data_dir={tmp_path}"
  message = f"The data set '{name}' is not prepared in {tmp_path}; run `{command}`."
  expect_error(message, name, "test", tmp_path)


@pytest.mark.parametrize("name", ["cassava", "cifar10_corrupted/blur:1.0.0"])
def test_what_needs_tensorflow_names_the_command_and_says_so(tmp_path, name):
  expect_error(
    f"run `tfds build {name} --file_format=array_record --data_dir={tmp_path}`, "
    "which needs `pip install tensorflow`.",
    *(name, "train", tmp_path),
  )


def test_an_unknown_name_gets_the_nearest_known_one(prepared):
  expect_error("There is no data set 'mnsit'", "mnsit", "train", prepared)
  expect_error("Did you mean 'mnist'?", "mnsit", "train", prepared)
  expect_error("Did you mean 'colours'?", "colors", "train", prepared)


@pytest.mark.parametrize("name", ["", "a b", "../mnist", "mnist:new"])
def test_what_is_no_name_is_told(prepared, name):
  expect_error(f"'{name}' is not the name of a data set", name, "train", prepared)


@pytest.mark.parametrize("split", ["validation", "train[", "train[:x]", "train[50:60]", ""])
def test_an_unknown_split_lists_the_known_ones(prepared, split):
  expect_error(f"'{split}' is not a split of 'colours'", "colours", split, prepared)
  expect_error("Valid: 'train', 'test'.", "colours", split, prepared)


def test_an_empty_split_is_told(prepared):
  expect_error("has no examples; choose another split.", "colours", "train[2:2]", prepared)


def test_another_file_format_is_told(damageable):
  info_path = damageable / "colours" / "1.0.0" / "dataset_info.json"
  info = json.loads(info_path.read_text())
  info_path.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
  expect_error("is prepared as tfrecord, not as array_record", "colours", "train", damageable)
  expect_error("tfds build colours --file_format=array_record", "colours", "train", damageable)


def test_other_features_are_told(damageable):
  features_path = damageable / "colours" / "1.0.0" / "features.json"
  features_path.write_text(features_path.read_text().replace('"image": {\n', '"photo": {\n', 1))
  expect_error("is not one of images and classes", "colours", "train", damageable)


def test_several_right_classes_an_image_are_told(damageable):
  features_path = damageable / "colours" / "1.0.0" / "features.json"
  features_path.write_text(features_path.read_text().replace('"label": {', '"real_label": {', 1))
  expect_error(
    "several right classes for an image; evaluate on 'imagenet2012', whose images it has, with "
    "--labels=real.json",
    *("colours", "train", damageable),
  )


def test_a_missing_file_is_named(damageable):
  (path,) = damageable.glob("colours/1.0.0/*train*")
  path.unlink()
  expect_error(f"lacks the file {path}; remove", "colours", "train", damageable)


def test_a_truncated_file_is_named(damageable):
  (path,) = damageable.glob("colours/1.0.0/*train*")
  path.write_bytes(path.read_bytes()[:1000])
  expect_error(f"is damaged in {path}; remove", "colours", "train", damageable)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_damaged_description_is_named(damageable, name, content):
  directory = damageable / "colours" / "1.0.0"
  (directory / name).write_text(content)
  expect_error(f"in {directory} is damaged; remove", "colours", "train", damageable)


def test_a_record_with_flipped_bits_is_a_decode_error(damageable):
  (path,) = damageable.glob("colours/1.0.0/*train*")
  content = bytearray(path.read_bytes())
  png = content.index(b"\x89PNG", content.index(b"\x89PNG") + 1)  # within the second record
  content[png + 30] ^= 1
  path.write_bytes(content)
  split = open_split("colours", "train", str(damageable))
  with pytest.raises(DecodeError):
    split.records[1]
  assert split.records[2]["label"] in (0, 1)


def test_a_directory_that_is_not_a_whole_data_set_is_not_overwritten(tmp_path):
  (tmp_path / "digits" / "1.0.0").mkdir(parents=True)
  expect_error("is not a whole data set; remove it", "digits", "train", tmp_path)


def test_a_directory_that_cannot_be_written_is_told(tmp_path):
  (tmp_path / "file").write_text("in the way")
  expect_error("cannot be written", "digits", "train", tmp_path / "file")


class TestADiskOnWhichItCannotBeWritten:
  """The first command prepares the digits, in the user's home."""

  def expect(self, root, reason):
    expect_error(
      f"{root}/digits/1.0.0 cannot be written ({reason}); nothing is left there. Name another "
      "directory with --config.data.dir, or --data_dir of data.prepare.",
      *("digits", "train", root),
    )
    assert not [path for path in root.rglob("*") if path.is_file()]

  @pytest.mark.parametrize(
    "error",
    [
      RuntimeError("Failed to finalize: write() failed: No space left on device; at byte 204800"),
      OSError(errno.ENOSPC, "No space left on device"),
      OSError(errno.EDQUOT, "Disk quota exceeded"),
      OSError("Failed to write\n[Errno 28] No space left on device"),
    ],
  )
  def test_a_full_one(self, tmp_path, monkeypatch, error):
    def write_examples(*arguments):
      raise error

    with monkeypatch.context() as full:
      full.setattr(tfds.core.file_adapters.ArrayRecordFileAdapter, "write_examples", write_examples)
      self.expect(tmp_path, "no space is left on the disk")
    assert len(open_split("digits", "test", str(tmp_path))) == 355

  def test_one_that_is_full_from_the_start(self, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.utils, "has_sufficient_disk_space", lambda *_, **__: False)
    self.expect(tmp_path, "no space is left on the disk")

  def test_one_that_is_full_before_the_description_is_written(self, tmp_path, monkeypatch):
    def write_to_directory(*arguments):
      raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tfds.core.DatasetInfo, "write_to_directory", write_to_directory)
    self.expect(tmp_path, "no space is left on the disk")

  @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
  def test_a_protected_one(self, tmp_path, monkeypatch, number):
    def mkdir(*arguments):
      raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", mkdir)
    self.expect(tmp_path, os.strerror(number))


@pytest.mark.parametrize("name", ["digits", "mnist", "colours"])
def test_a_path_that_is_too_long_is_told(tmp_path, name):
  expect_error("cannot be looked at: File name too long.", name, "train", tmp_path / ("x" * 300))


def test_a_name_that_is_too_long_is_told(tmp_path):
  expect_error("cannot be looked at: File name too long.", "x" * 300, "train", tmp_path)


@pytest.mark.parametrize("name", ["digits", "mnist", "colours"])
def test_a_directory_that_one_may_not_look_at_is_told(tmp_path, monkeypatch, name):
  stat = pathlib.Path.stat

  def refuse(self, **options):
    if tmp_path in self.parents:
      raise PermissionError(errno.EACCES, "Permission denied")
    return stat(self, **options)

  monkeypatch.setattr(pathlib.Path, "stat", refuse)
  expect_error("cannot be looked at: Permission denied.", name, "train", tmp_path)


def test_interrupted_writing_leaves_nothing_that_reads_as_prepared(tmp_path):
  def examples():
    yield {"image": np.zeros((8, 8, 1), np.uint8), "label": 0}
    raise KeyboardInterrupt

  data_set = DataSet("halves", "1.0.0", (8, 8, 1), 1, "Half of it.", "https://example.org", "")
  with pytest.raises(KeyboardInterrupt):
    store(data_set, tmp_path, {"train": examples()}, {})
  assert not [path for path in tmp_path.rglob("*") if path.is_file()]
  expect_error("There is no data set 'halves'", "halves", "train", tmp_path)


def test_reading_and_batching_import_neither_tensorflow_nor_torch(tmp_path):
  """The iterator is left open, so that this also shows that the process ends without it."""
  program = """
import sys
from speedpaper_jax.data import augmentation, pipeline, prepare, sources
split = sources.open_split("digits", "train", sys.argv[1])
batches = pipeline.train_batches(
  split, image_size=32, batch_size=32, seed=0, augmentation=augmentation.Augmentation()
)
next(batches)
assert not {"tensorflow", "torch"} & set(sys.modules)
"""
  command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
  finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
  assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "")


@pytest.mark.parametrize(
  ("name", "split", "count", "classes"),
  [
    ("mnist", "train", 60_000, 10),
    ("mnist:3.0.1", "test", 10_000, 10),
    ("imagenet2012", "train[:50%]", 32, 1000),
    ("imagenet2012:5.1.0", "validation", 32, 1000),
  ],
)
def test_data_sets_that_tfds_prepared_are_read(name, split, count, classes):
  samples.require()
  opened = open_split(name, split, str(samples.DIRECTORY))
  assert (len(opened), opened.num_classes, len(opened.class_names)) == (count, classes, classes)
  labels = {opened.records[index]["label"] for index in range(32)}
  assert labels <= set(range(classes))
  assert len(labels) > 5
