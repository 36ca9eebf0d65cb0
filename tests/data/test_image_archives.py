"""Archives of images: what is in them, and that what is damaged is told."""

import contextlib
import gzip
import io
import os
import re
import tarfile

import made_up_imagenet
import pytest

from speedpaper_jax.data import image_archives
from speedpaper_jax.data.image_archives import Folder, Tar, Zip
from speedpaper_jax.data.image_files import LeftOut
from speedpaper_jax.errors import UserError

MEMBERS = {f"a/{number}.JPEG": bytes([number]) * (100 * number) for number in range(1, 5)}


@pytest.fixture
def left_out(tmp_path):
  return LeftOut(tmp_path)


def contents(archive):
  with contextlib.closing(archive):
    return {m.name: archive.read(m.position, m.size) for m in archive.members()}


def write(path, content):
  path.write_bytes(content)
  return path


class TestTar:
  def test_images_are_found_and_read(self, tmp_path, left_out):
    path = write(tmp_path / "a.tar", made_up_imagenet.tar(MEMBERS))
    assert contents(Tar(path, left_out)) == MEMBERS
    assert not left_out

  def test_those_of_a_tar_file_in_it_are_read_where_they_lie(self, tmp_path, left_out):
    inner = {
      "x.tar": made_up_imagenet.tar(MEMBERS),
      "y.tar": made_up_imagenet.tar({"z.JPEG": b"1"}),
    }
    path = write(tmp_path / "a.tar", made_up_imagenet.tar(inner))
    with contextlib.closing(Tar(path, left_out)) as archive:
      parts = list(archive.tar_files())
      assert [part.name for part in parts] == ["x.tar", "y.tar"]
      found = [list(archive.members_of(part)) for part in parts]
      read = {m.name: archive.read(m.position, m.size) for members in found for m in members}
    assert read == MEMBERS | {"z.JPEG": b"1"}

  def test_what_tfds_skips_and_what_is_no_image_is_left_out_and_counted(self, tmp_path, left_out):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
      names = ["./ok.JPEG", ".hidden.JPEG", "a/.hidden.JPEG", "../up.JPEG", "read.me", "/abs.JPEG"]
      for name in names:
        archive.addfile(tarfile.TarInfo(name))
      for name, kind in (("link.JPEG", tarfile.SYMTYPE), ("folder", tarfile.DIRTYPE)):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "ok.JPEG"
        archive.addfile(member)
    path = write(tmp_path / "a.tar", content.getvalue())
    assert list(contents(Tar(path, left_out))) == ["ok.JPEG"]
    assert len(left_out) == 6
    for kind in ("4 hidden", "1 with other endings", "1 as a link or device"):
      assert kind in str(left_out)

  @pytest.mark.parametrize("kept", [0, 100, 512, 600, 1024, 1536, 3000, -10_240])
  def test_one_that_breaks_off_is_told(self, tmp_path, left_out, kept):
    # The members end at 4,096; the rest are the empty blocks of the end.
    path = write(tmp_path / "a.tar", made_up_imagenet.tar(MEMBERS)[:kept] if kept else b"")
    with pytest.raises(UserError, match=re.escape(f"{path} is damaged (")):
      contents(Tar(path, left_out))

  def test_one_without_an_end_is_told(self, tmp_path, left_out):
    whole = made_up_imagenet.tar(MEMBERS)
    path = write(tmp_path / "a.tar", whole.rstrip(b"\0") + bytes(-len(whole.rstrip(b"\0")) % 512))
    with pytest.raises(UserError, match="breaks off after 4,096 bytes"):
      contents(Tar(path, left_out))

  def test_a_damaged_header_is_told(self, tmp_path, left_out):
    content = bytearray(made_up_imagenet.tar(MEMBERS))
    content[1024:1030] = b"damage"  # in the second header
    path = write(tmp_path / "a.tar", content)
    with pytest.raises(UserError, match="is damaged"):
      contents(Tar(path, left_out))

  def test_one_in_another_must_not_reach_beyond_its_own_end(self, tmp_path, left_out):
    inner = made_up_imagenet.tar(MEMBERS)[:2000]
    path = write(tmp_path / "a.tar", made_up_imagenet.tar({"x.tar": inner, "y.tar": bytes(20_000)}))
    with contextlib.closing(Tar(path, left_out)) as archive:
      (part, _) = archive.tar_files()
      with pytest.raises(UserError, match=re.escape(f"x.tar in {path} is damaged")):
        list(archive.members_of(part))

  def test_one_that_shrinks_while_it_is_read_is_told(self, tmp_path, left_out):
    path = write(tmp_path / "a.tar", made_up_imagenet.tar(MEMBERS))
    with contextlib.closing(Tar(path, left_out)) as archive:
      *_, last = archive.members()
      os.truncate(path, 2000)
      with pytest.raises(UserError, match="has become shorter"):
        archive.read(last.position, last.size)

  def test_one_that_is_not_there_is_told(self, tmp_path, left_out):
    with pytest.raises(UserError, match="cannot be read: No such file"):
      Tar(tmp_path / "a.tar", left_out)


class TestZip:
  def test_images_are_found_and_read(self, tmp_path, left_out):
    made_up_imagenet.write_zip(tmp_path / "a.zip", MEMBERS | {"b/": b"", "b/read.me": b""})
    assert contents(Zip(tmp_path / "a.zip", left_out)) == MEMBERS
    assert str(left_out) == "1 with other endings ('a.zip/b/read.me')"

  def test_one_that_breaks_off_is_told(self, tmp_path, left_out):
    made_up_imagenet.write_zip(tmp_path / "a.zip", MEMBERS)
    os.truncate(tmp_path / "a.zip", 300)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'a.zip'} is damaged")):
      Zip(tmp_path / "a.zip", left_out)

  def test_damaged_bytes_are_told(self, tmp_path, left_out):
    made_up_imagenet.write_zip(tmp_path / "a.zip", MEMBERS)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[45] ^= 255  # within the first member
    path = write(tmp_path / "a.zip", content)
    with pytest.raises(UserError, match="is damaged"):
      contents(Zip(path, left_out))


class TestFolder:
  def test_images_and_those_of_its_folders_are_found_and_read(self, tmp_path, left_out):
    for name, content in {**MEMBERS, "b.JPEG": b"b", "read.me": b"", "a/.x.JPEG": b""}.items():
      path = tmp_path / name
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(content)
    (tmp_path / "a" / "deep").mkdir()
    assert contents(Folder(tmp_path, left_out)) == MEMBERS | {"b.JPEG": b"b"}
    assert str(left_out) == (
      "1 hidden ('a/.x.JPEG'), 1 in deeper folders ('a/deep'), 1 with other endings ('read.me')"
    )

  def test_an_image_that_changes_meanwhile_is_told(self, tmp_path, left_out):
    path = write(tmp_path / "a.JPEG", b"123")
    folder = Folder(tmp_path, left_out)
    (member,) = folder.members()
    path.write_bytes(b"12")
    with pytest.raises(UserError, match="had 3 bytes and has 2 now"):
      folder.read(member.position, member.size)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
      folder.read(member.position, member.size)


class TestGzip:
  def test_it_is_told_by_its_contents(self, tmp_path):
    assert image_archives.is_gzip(write(tmp_path / "a.tar.gz", gzip.compress(b"x")))
    assert not image_archives.is_gzip(write(tmp_path / "b.tar.gz", made_up_imagenet.tar(MEMBERS)))

  def test_it_is_decompressed_with_progress(self, tmp_path):
    path = write(tmp_path / "a.gz", gzip.compress(bytes(3 * 2**20)))
    steps = []
    image_archives.decompress(path, tmp_path / "a", steps.append)
    assert (tmp_path / "a").read_bytes() == bytes(3 * 2**20)
    assert sum(steps) == path.stat().st_size

  def test_one_that_breaks_off_is_told(self, tmp_path):
    path = write(tmp_path / "a.gz", gzip.compress(os.urandom(1000))[:-20])
    with pytest.raises(UserError, match=re.escape(f"{path} is damaged")):
      image_archives.decompress(path, tmp_path / "a", lambda _: None)
