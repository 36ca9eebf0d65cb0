"""Files from a server on this machine; what does not arrive whole is an error."""

import pytest
from serving import served

from speedpaper_jax.data import download

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def server():
  with served() as (address, handler):
    handler.contents["/file"] = CONTENT
    yield address, handler


def test_a_whole_file(server, tmp_path):
  address, _ = server
  headers = download.fetch(f"{address}/file", tmp_path / "it")
  assert (tmp_path / "it").read_bytes() == CONTENT
  assert headers["content-length"] == str(len(CONTENT))


def test_headers_of_redirections_are_kept(server, tmp_path):
  address, handler = server
  handler.redirects["/here"] = ("/file", {"X-Linked-Etag": '"abc"'})
  headers = download.fetch(f"{address}/here", tmp_path / "it")
  assert headers["x-linked-etag"] == '"abc"'
  assert (tmp_path / "it").read_bytes() == CONTENT


def test_half_a_file(server, tmp_path):
  address, handler = server
  handler.cut.add("/file")
  with pytest.raises(download.DownloadError, match=r"/file broke off after [\d,]+ "):
    download.fetch(f"{address}/file", tmp_path / "it")


@pytest.mark.parametrize(
  ("url", "reason"),
  [
    ("{address}/none", r"/none cannot be reached \(HTTP status 404, Not Found\)"),
    ("http://127.0.0.1:1/file", r"cannot be reached \(Connection refused\)"),
    ("nothing", "nothing cannot be reached"),
  ],
)
def test_what_cannot_be_reached(server, tmp_path, url, reason):
  address, _ = server
  with pytest.raises(download.DownloadError, match=reason):
    download.fetch(url.format(address=address), tmp_path / "it")


def test_a_place_that_cannot_be_written(server, tmp_path):
  address, _ = server
  with pytest.raises(FileNotFoundError):
    download.fetch(f"{address}/file", tmp_path / "nowhere" / "it")
