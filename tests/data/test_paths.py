"""Paths that the system refuses to look at are told in a sentence."""

import errno
import os
import pathlib

import pytest

from speedpaper_jax.data import paths
from speedpaper_jax.data.sources import data_root
from speedpaper_jax.errors import UserError

QUESTIONS = (paths.is_directory, paths.is_file)


def test_what_is_there(tmp_path):
  (tmp_path / "file").touch()
  assert (paths.is_directory(tmp_path), paths.is_file(tmp_path)) == (True, False)
  assert (paths.is_directory(tmp_path / "file"), paths.is_file(tmp_path / "file")) == (False, True)


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize("name", ["missing", "file/below", "loop", "pipe", "null\0"])
def test_what_is_not_there(tmp_path, ask, name):
  (tmp_path / "file").touch()
  (tmp_path / "loop").symlink_to("loop")
  os.mkfifo(tmp_path / "pipe")
  assert not ask(tmp_path / name)


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize(
  ("number", "reason"), [(errno.EACCES, "Permission denied"), (errno.EIO, "Input/output error")]
)
def test_what_may_not_be_looked_at(monkeypatch, ask, number, reason):
  def stat(self, **options):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(pathlib.Path, "stat", stat)
  with pytest.raises(UserError, match=rf"^'/mine' cannot be looked at: {reason}\.$"):
    ask(pathlib.Path("/mine"))


@pytest.mark.parametrize("ask", QUESTIONS)
def test_a_name_that_is_too_long(tmp_path, ask):
  with pytest.raises(UserError, match=r"^'.*' cannot be looked at: File name too long\.$"):
    ask(tmp_path / ("x" * 300))


def test_the_home_directory(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  assert paths.expand("~/data") == pathlib.Path("/home/me/data")
  assert paths.expand("data/~") == pathlib.Path("data/~")
  with pytest.raises(UserError, match=r"^'~nobody_of_this_name' cannot be found, because there is"):
    paths.expand("~nobody_of_this_name")


@pytest.mark.parametrize(
  ("error", "is_full"),
  [
    (OSError(errno.ENOSPC, "No space left on device"), True),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
    (RuntimeError("write() failed: No space left on device; at byte 4096"), True),
    (OSError(errno.EROFS, "Read-only file system"), False),
    (RuntimeError("Failed to finalize"), False),
  ],
)
def test_a_full_disk(error, is_full):
  assert paths.is_full(error) == is_full


def test_an_address_of_a_bucket_is_no_path(monkeypatch):
  with pytest.raises(UserError, match=r"^'gs://bucket/data' is in a bucket"):
    paths.expand("gs://bucket/data")
  monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/data")
  with pytest.raises(UserError, match=r"^'gs://bucket/data' is in a bucket"):
    data_root("")
