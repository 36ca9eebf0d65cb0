"""Tar files, zip files and folders of images, whose names are read first and whose bytes later.

A name is that of TFDS: the path in the archive, normalised. What TFDS skips (hidden files, paths
that lead out of the archive, links) and what does not end as images do is left out and counted.
"""

import gzip
import os
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from speedpaper_jax.data.image_files import SUFFIXES, LeftOut, kind_of, list_directory
from speedpaper_jax.errors import UserError

# A tar file is made of these, and ends with two that are empty.
_BLOCK = 512
_CHUNK = 2**20


class Member(NamedTuple):
  """A file in an archive.

  Attributes:
    name: its normalised path in the archive.
    position: where `read` finds it.
    size: in bytes.
  """

  name: str
  position: int
  size: int


class Archive(Protocol):
  """Something that holds images; several threads may read it at once."""

  path: pathlib.Path

  def members(self) -> Iterator[Member]:
    """The images in it, in the archive's order; of a folder in that of their names.

    Raises:
      UserError: it is damaged or cannot be read.
    """

  def read(self, position: int, size: int, /) -> bytes:
    """The bytes of a member.

    Raises:
      UserError: they cannot be read, or are not as many as they were.
    """

  def close(self) -> None:
    """Nothing is read after that."""


class Tar:
  """A tar file without compression, which may hold others."""

  def __init__(
    self, path: pathlib.Path, left_out: LeftOut, content: pathlib.Path | None = None
  ) -> None:
    """Opens it.

    Args:
      path: of the file.
      left_out: gets what is left out.
      content: another file that holds what that one does, without its compression.

    Raises:
      UserError: there is no such file, or it cannot be read.
    """
    self.path = path
    self._left_out = left_out
    try:
      self._file = (content or path).open("rb")
    except OSError as error:
      raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    self.size = os.fstat(self._file.fileno()).st_size

  def members(self) -> Iterator[Member]:
    """See `Archive`."""
    return self._members(f"{self.path}", 0, self.size, SUFFIXES)

  def tar_files(self) -> Iterator[Member]:
    """The tar files in it.

    Raises:
      UserError: it is damaged or cannot be read.
    """
    return self._members(f"{self.path}", 0, self.size, (".tar",))

  def members_of(self, part: Member) -> Iterator[Member]:
    """The images in one of the tar files in it, as `members`."""
    name = f"{part.name} in {self.path}"
    return self._members(name, part.position, part.position + part.size, SUFFIXES)

  def read(self, position: int, size: int) -> bytes:
    """See `Archive`."""
    try:
      content = os.pread(self._file.fileno(), size, position)
    except OSError as error:
      raise UserError(f"{self.path} cannot be read: {error.strerror}.") from error
    if len(content) != size:
      raise UserError(damaged(f"{self.path}", f"it has become shorter than {position + size:,}"))
    return content

  def close(self) -> None:
    """See `Archive`."""
    self._file.close()

  def _members(
    self, name: str, start: int, end: int, suffixes: tuple[str, ...]
  ) -> Iterator[Member]:
    self._file.seek(start)
    try:
      with tarfile.open(fileobj=self._file, mode="r:") as archive:
        for member in archive:
          if member.offset_data + member.size > end:
            raise UserError(damaged(name, f"it breaks off within {member.name}"))
          if not member.isdir() and (path := self._wanted(member, suffixes)) is not None:
            yield Member(path, member.offset_data, member.size)
        # The library takes whatever is no header for the end.
        after = archive.offset
    except (tarfile.TarError, OSError, EOFError) as error:
      raise UserError(damaged(name, error)) from error
    self._file.seek(after)
    if after + _BLOCK > end or self._file.read(_BLOCK) != bytes(_BLOCK):
      raise UserError(damaged(name, f"it breaks off after {after - start:,} bytes"))

  def _wanted(self, member: tarfile.TarInfo, suffixes: tuple[str, ...]) -> str | None:
    if not member.isfile():
      _leave_out(self._left_out, "as a link or device", self.path, member.name)
      return None
    return _wanted(member.name, suffixes, self._left_out, self.path)


class Zip:
  """A zip file."""

  def __init__(self, path: pathlib.Path, left_out: LeftOut) -> None:
    """Opens it.

    Raises:
      UserError: it is damaged or cannot be read.
    """
    self.path = path
    self._left_out = left_out
    try:
      self._archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
      raise UserError(damaged(str(path), error)) from error
    self._members = self._archive.infolist()

  def members(self) -> Iterator[Member]:
    """See `Archive`."""
    for number, member in enumerate(self._members):
      if member.is_dir():
        continue
      name = _wanted(member.filename, SUFFIXES, self._left_out, self.path)
      if name is not None:
        yield Member(name, number, member.file_size)

  def read(self, position: int, size: int) -> bytes:
    """See `Archive`."""
    try:
      content = self._archive.read(self._members[position])
    # The last is the library's word for a method of compression that it does not have.
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
      raise UserError(damaged(str(self.path), error)) from error
    if len(content) != size:
      raise UserError(damaged(str(self.path), f"{len(content)} bytes instead of {size}"))
    return content

  def close(self) -> None:
    """See `Archive`."""
    self._archive.close()


class Folder:
  """A folder of images, and of folders of images."""

  def __init__(self, path: pathlib.Path, left_out: LeftOut) -> None:
    """Reads nothing yet; `left_out` gets what is left out."""
    self.path = path
    self._left_out = left_out
    self._names: list[str] = []

  def members(self) -> Iterator[Member]:
    """See `Archive`; those in a folder have names such as "n01440764/1.JPEG"."""
    self._names = []
    for entry in list_directory(self.path):
      if kind_of(entry) != "folder":
        yield from self._member(entry, entry.name)
        continue
      for inner in list_directory(pathlib.Path(entry.path)):
        yield from self._member(inner, f"{entry.name}/{inner.name}")

  def read(self, position: int, size: int) -> bytes:
    """See `Archive`."""
    path = self.path / self._names[position]
    try:
      content = path.read_bytes()
    except OSError as error:
      raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) != size:
      raise UserError(f"{path} had {size:,} bytes and has {len(content):,} now; begin again.")
    return content

  def close(self) -> None:
    """See `Archive`."""

  def _member(self, entry: os.DirEntry[str], name: str) -> Iterator[Member]:
    kind = kind_of(entry)
    if kind != "image":
      self._left_out.add("in deeper folders" if kind == "folder" else kind, self.path / name)
      return
    self._names.append(name)
    yield Member(name, len(self._names) - 1, entry.stat().st_size)


def is_gzip(path: pathlib.Path) -> bool:
  """Tells whether a file is compressed, whatever its name.

  Raises:
    UserError: it cannot be read.
  """
  try:
    with path.open("rb") as file:
      return file.read(2) == b"\x1f\x8b"
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def decompress(path: pathlib.Path, to: pathlib.Path, advance: Callable[[int], object]) -> None:
  """Writes what a gzip file holds to another file.

  Args:
    path: of the gzip file.
    to: of a file that may be written over.
    advance: is called with the bytes that were read since the last call.

  Raises:
    UserError: it is damaged.
    OSError: the other file cannot be written.
  """
  with path.open("rb") as compressed, gzip.open(compressed) as file, to.open("wb") as written:
    done = 0
    while chunk := _decompressed(file, path):
      written.write(chunk)
      advance(compressed.tell() - done)
      done = compressed.tell()


def _decompressed(file: gzip.GzipFile, path: pathlib.Path) -> bytes:
  try:
    return file.read(_CHUNK)
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise UserError(damaged(str(path), error)) from error


def damaged(name: str, what: object) -> str:
  """The sentence for a file that is not whole."""
  return f"{name} is damaged ({what}); get it again."


def _wanted(
  name: str, suffixes: tuple[str, ...], left_out: LeftOut, archive: pathlib.Path
) -> str | None:
  """The normalised name of a file that is wanted; else None."""
  path = os.path.normpath(name)
  hidden = path.startswith(".") or os.path.basename(path).startswith(".")
  if hidden or os.path.isabs(path) or path.endswith("~"):
    _leave_out(left_out, "hidden", archive, path)
    return None
  if not path.lower().endswith(suffixes):
    _leave_out(left_out, "with other endings", archive, path)
    return None
  return path


def _leave_out(left_out: LeftOut, kind: str, archive: pathlib.Path, name: str) -> None:
  left_out.add(kind, archive / name.lstrip("/"))
