"""One file from the network, with its progress on standard error."""

import http.client
import pathlib
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPMessage
from typing import IO

import tqdm

from speedpaper_jax.errors import UserError

_TIMEOUT_SECONDS = 60
_CHUNK = 2**20


class DownloadError(UserError):
  """A file could not be fetched, or not whole; what to do about it is for the caller to say."""


class _KeepingHeaders(urllib.request.HTTPRedirectHandler):
  """Hubs say what a file is in the answer that sends one elsewhere for it."""

  def __init__(self) -> None:
    self.headers: dict[str, str] = {}

  def redirect_request(
    self,
    req: urllib.request.Request,
    fp: IO[bytes],
    code: int,
    msg: str,
    headers: HTTPMessage,
    newurl: str,
  ) -> urllib.request.Request | None:
    self.headers |= {name.lower(): value for name, value in headers.items()}
    return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: pathlib.Path) -> Mapping[str, str]:
  """Writes what is at an address to a file; proxies are those of the environment.

  Args:
    url: of HTTP or HTTPS.
    path: of a file that may be written over; part of it may be there after an error.

  Returns:
    The headers of the answer, by their names in small letters; those of redirections too.

  Raises:
    DownloadError: it cannot be reached, or ends too early.
    OSError: the file cannot be written.
  """
  redirects = _KeepingHeaders()
  opener = urllib.request.build_opener(redirects)
  try:
    request = urllib.request.Request(url, headers={"User-Agent": "speedpaper_jax"})
    answer = opener.open(request, timeout=_TIMEOUT_SECONDS)
  except (OSError, http.client.HTTPException, ValueError) as error:
    raise DownloadError(f"{url} cannot be reached ({_reason(error)})") from error
  with answer:
    length = int(answer.headers.get("Content-Length") or 0)
    received = _copy(answer, path, length, url)
  if received < length:
    raise DownloadError(f"{url} broke off after {received:,} of {length:,} bytes")
  return redirects.headers | {name.lower(): value for name, value in answer.headers.items()}


def _copy(answer: http.client.HTTPResponse, path: pathlib.Path, length: int, url: str) -> int:
  received = 0
  with (
    path.open("wb") as file,
    tqdm.tqdm(
      total=length or None,
      desc=url.rpartition("/")[2],
      unit="B",
      unit_scale=True,
      unit_divisor=1024,
      leave=False,
    ) as bar,
  ):
    while True:
      try:
        chunk = answer.read(_CHUNK)
      except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
          f"{url} broke off after {received:,} bytes ({_reason(error)})"
        ) from error
      if not chunk:
        return received
      file.write(chunk)
      received += len(chunk)
      bar.update(len(chunk))


def _reason(error: Exception) -> str:
  if isinstance(error, urllib.error.HTTPError):
    return f"HTTP status {error.code}, {error.reason}"
  reason = getattr(error, "reason", error)
  return str(getattr(reason, "strerror", None) or reason or type(error).__name__)
