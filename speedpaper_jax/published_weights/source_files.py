"""The files of published weights: fetched, or put in their place by hand, and checked."""

import hashlib
import pathlib
import shutil
import zipfile
from collections.abc import Mapping

from speedpaper_jax.data import download
from speedpaper_jax.errors import UserError
from speedpaper_jax.published_weights.table import Checksum, PublishedWeights, address


def obtain(row: PublishedWeights, by_hand: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
  """Takes the file that was put in its place by hand, or fetches it.

  Args:
    row: of the table.
    by_hand: where one may have been put.
    directory: to write to; what is in it is the caller's to remove.

  Returns:
    The path of the weights, out of the archive that they may have come in.

  Raises:
    UserError: the file cannot be fetched, or is not the published one.
    OSError: the directory cannot be written.
  """
  advice = f"get the file another way, put it at {by_hand}, and give the same command again"
  checksum = row.checksum
  if by_hand.is_file():
    path, what = by_hand, str(by_hand)
    advice = f"get the file again from {address(row)}"
  else:
    path, what = directory / row.file_name, address(row)
    try:
      headers = download.fetch(what, path)
    except download.DownloadError as error:
      raise UserError(f"{error}; {advice}.") from error
    checksum = checksum or _of_hub(headers)
  if path.suffix == ".zip":
    path = _unpacked(path, directory, what, advice)
  if checksum is not None:
    _check(path, checksum, what, advice)
  return path


def _of_hub(headers: Mapping[str, str]) -> Checksum | None:
  """Hugging Face's hub names the SHA-256 of a large file in its answer."""
  digest = headers.get("x-linked-etag", "").strip('"')
  return Checksum("sha256", digest) if len(digest) == 64 else None


def _unpacked(path: pathlib.Path, directory: pathlib.Path, what: str, advice: str) -> pathlib.Path:
  """The one file in an archive, under the archive's name."""
  out = directory / path.stem
  try:
    with zipfile.ZipFile(path) as archive:
      (member,) = (each for each in archive.infolist() if not each.is_dir())
      with archive.open(member) as packed, out.open("wb") as file:
        shutil.copyfileobj(packed, file)
  except Exception as error:  # it raises many kinds for damaged files
    if isinstance(error, OSError) and error.errno is not None:
      raise
    raise UserError(f"{what} is not the published archive ({error}); {advice}.") from error
  return out


def _check(path: pathlib.Path, checksum: Checksum, what: str, advice: str) -> None:
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, checksum.algorithm).hexdigest()
  if not digest.startswith(checksum.digest):
    found = digest[: len(checksum.digest)]
    raise UserError(
      f"{what} is not the published file (its {checksum.algorithm.upper()} is {found}, not "
      f"{checksum.digest}); {advice}."
    )
