"""A file is fetched or taken from where it was put, and is the published one or refused."""

import dataclasses
import hashlib
import io
import zipfile

import pytest
from serving import served

from speedpaper_jax.errors import UserError
from speedpaper_jax.published_weights import source_files, table
from speedpaper_jax.published_weights.table import Checksum

CONTENT = b"weights" * 1000


def zipped(content):
  archive = io.BytesIO()
  with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
    file.writestr("folder/it.pth", content)
  return archive.getvalue()


@pytest.fixture
def obtain(tmp_path):
  """Obtains a row whose file a server of this machine has; the server is its attribute."""
  with served() as (address, handler):

    def obtain(name="it.pth", **changes):
      row = dataclasses.replace(table.ROWS[0], url=f"{address}/{name}", **changes)
      staging = tmp_path / "staging"
      staging.mkdir(exist_ok=True)
      return source_files.obtain(row, tmp_path / "by hand" / row.file_name, staging).read_bytes()

    obtain.handler = handler
    yield obtain


def digest(algorithm, length):
  return Checksum(algorithm, hashlib.new(algorithm, CONTENT).hexdigest()[:length])


@pytest.mark.parametrize("checksum", [digest("sha256", 8), digest("md5", 32), None])
def test_a_file_is_fetched(obtain, checksum):
  obtain.handler.contents["/it.pth"] = CONTENT
  assert obtain(checksum=checksum) == CONTENT


def test_an_archive_is_unpacked_and_the_file_in_it_checked(obtain):
  obtain.handler.contents["/it.pth.zip"] = zipped(CONTENT)
  assert obtain("it.pth.zip", checksum=digest("sha1", 40)) == CONTENT


def test_another_file_is_refused(obtain):
  obtain.handler.contents["/it.pth"] = CONTENT[:-1] + b"?"
  with pytest.raises(UserError) as refusal:
    obtain(checksum=digest("sha256", 8))
  assert "/it.pth is not the published file (its SHA256 is " in str(refusal.value)
  assert "get the file another way, put it at " in str(refusal.value)


def test_an_archive_of_something_else_is_refused(obtain):
  for content in (b"no archive", zipped(CONTENT)[:-50]):
    obtain.handler.contents["/it.pth.zip"] = content
    with pytest.raises(UserError, match="is not the published archive"):
      obtain("it.pth.zip")


def test_the_hubs_own_checksum_is_believed(obtain):
  sha256 = hashlib.sha256(CONTENT).hexdigest()
  obtain.handler.contents["/blob"] = CONTENT
  obtain.handler.redirects["/it.pth"] = ("/blob", {"X-Linked-Etag": f'"{sha256}"'})
  assert obtain(checksum=None) == CONTENT
  obtain.handler.contents["/blob"] = CONTENT[::-1]
  with pytest.raises(UserError, match="is not the published file"):
    obtain(checksum=None)


def test_half_a_file_is_refused(obtain):
  obtain.handler.contents["/it.pth"] = CONTENT
  obtain.handler.cut.add("/it.pth")
  with pytest.raises(UserError, match=r"broke off after .*; get the file another way, put it at"):
    obtain(checksum=None)


def test_without_network_it_says_which_file_to_put_where(obtain, tmp_path):
  row = dataclasses.replace(table.ROWS[0], url="http://127.0.0.1:1/it.pth")
  with pytest.raises(UserError) as refusal:
    source_files.obtain(row, tmp_path / "files" / "it.pth", tmp_path)
  assert str(refusal.value) == (
    "http://127.0.0.1:1/it.pth cannot be reached (Connection refused); get the file another way, "
    f"put it at {tmp_path}/files/it.pth, and give the same command again."
  )


class TestByHand:
  @pytest.fixture
  def place(self, tmp_path):
    (tmp_path / "by hand").mkdir()
    return tmp_path / "by hand" / "it.pth"

  def test_it_is_taken_without_network(self, obtain, place):
    place.write_bytes(CONTENT)
    assert obtain(checksum=digest("sha256", 8)) == CONTENT
    assert obtain.handler.asked == []
    assert place.exists()

  def test_another_file_is_refused(self, obtain, place):
    place.write_bytes(b"another")
    with pytest.raises(UserError, match=r"it.pth is not the published file .*; get the file again"):
      obtain(checksum=digest("sha256", 8))
    assert place.read_bytes() == b"another"
