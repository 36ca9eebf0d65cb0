"""Reading what somebody else may have put there."""

import os

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files.regular_files import read, read_named
from speedpaper_jax.storage.run_directory import RunDirectory

NO_FILES = [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")]


def test_a_file(tmp_path):
  (tmp_path / "a.jpg").write_bytes(b"content")
  assert read(tmp_path / "a.jpg") == b"content"


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_not_opened(tmp_path, make):
  make(tmp_path / "a.jpg")
  with pytest.raises(OSError, match="it is no regular file"):
    read(tmp_path / "a.jpg")


@pytest.mark.parametrize("make", NO_FILES)
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "arrays.npz"])
def test_nor_in_the_directory_of_a_run(tmp_path, make, name):
  make(tmp_path / name)
  run = RunDirectory(tmp_path)
  readings = {"metrics.jsonl": run.metrics, "arrays.npz": run.read_arrays}
  with pytest.raises(UserError, match=rf"{name} cannot be read \(.*it is no|cannot be read \(Is a"):
    readings.get(name, lambda: run.read(name))()


def test_what_a_user_has_named_is_told_in_a_sentence(tmp_path):
  path = tmp_path / "labels.json"
  with pytest.raises(UserError) as refusal:
    read_named(path, "a file of labels")
  assert str(refusal.value) == f"There is no file '{path}'; give the path of a file of labels."
  os.mkfifo(path)
  with pytest.raises(UserError, match="cannot be read: it is no regular file"):
    read_named(path, "a file of labels")
  path.unlink()
  path.write_bytes(b"content")
  assert read_named(path, "a file of labels") == b"content"
