"""Image files that the user names, one by one or by their directory.

Everything that reads a folder of images finds them here, by one rule: the files in and below it
that end as images do. What is hidden (a leading dot, or the folders that systems put beside files),
what has another ending, what is no regular file, what cannot be entered and what a link leads to
twice is left out, counted and reported.
"""

import collections
import os
import pathlib
from collections.abc import Iterable

from speedpaper_jax.errors import UserError, warn_once

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

# Of archives packed by macOS, of network storage (Synology), of disks under Linux and Windows.
_SYSTEM_FOLDERS = (
  "__MACOSX",
  "@eaDir",
  "lost+found",
  "System Volume Information",
  "$RECYCLE.BIN",
)
_EXAMPLES = 5  # names printed of each kind that is left out


class LeftOut:
  """Counts what is left out, by kind; as a string it is the end of a sentence."""

  def __init__(self, folder: pathlib.Path) -> None:
    """Starts with nothing.

    Args:
      folder: names are printed relative to it.
    """
    self._folder = folder
    self._counts: collections.Counter[str] = collections.Counter()
    self._examples: dict[str, list[str]] = {}

  def add(self, kind: str, path: pathlib.Path) -> None:
    """Counts one file or folder.

    Args:
      kind: what it is; "3 hidden" has to be English.
      path: below the folder.
    """
    self._counts[kind] += 1
    examples = self._examples.setdefault(kind, [])
    if len(examples) < _EXAMPLES:
      examples.append(f"'{path.relative_to(self._folder)}'")

  def __len__(self) -> int:
    return self._counts.total()

  def __str__(self) -> str:
    return ", ".join(
      f"{count} {kind} ({', '.join(self._examples[kind])}"
      f"{', …' if count > len(self._examples[kind]) else ''})"
      for kind, count in sorted(self._counts.items())
    )


def find_images(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """Puts in the place of each directory the images in it and below it, in alphabetical order.

  What is left out of a directory is reported.

  Raises:
    UserError: there are none in a directory, or it cannot be read.
  """
  images = []
  for path in paths:
    if not _is_named_directory(path):
      images.append(path)
      continue
    left_out = LeftOut(path)
    found = images_below(path, left_out)
    if not found:
      raise UserError(
        f"There are no images in '{path}'; files that end in {', '.join(SUFFIXES)} are taken for "
        f"such.{f' Left out: {left_out}.' if left_out else ''}"
      )
    if left_out:
      warn_once(f"left out of '{path}': {left_out}.")
    images += found
  return images


def images_below(directory: pathlib.Path, left_out: LeftOut) -> list[pathlib.Path]:
  """The images in a directory and below it, in alphabetical order.

  Args:
    directory: to look in; links are followed.
    left_out: gets the other files.

  Raises:
    UserError: the directory itself cannot be read.
  """
  images = []
  met = {_identity(folder) for folder in (directory, *directory.resolve().parents)} - {None}
  pending = list_directory(directory)[::-1]
  while pending:
    entry = pending.pop()
    path, kind = pathlib.Path(entry.path), kind_of(entry)
    if kind == "image":
      images.append(path)
    elif kind != "folder":
      left_out.add(kind, path)
    elif (identity := _identity(path)) in met:
      left_out.add("linked to in a circle", path)
    else:
      met.add(identity)
      try:
        pending += list_directory(path)[::-1]
      except UserError:
        left_out.add("that cannot be read", path)
  return images


def list_directory(directory: pathlib.Path) -> list[os.DirEntry[str]]:
  """What is in a directory, in alphabetical order.

  Raises:
    UserError: it cannot be read.
  """
  try:
    with os.scandir(directory) as entries:
      return sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    raise UserError(f"The folder '{directory}' cannot be read: {error.strerror}.") from error


def kind_of(entry: os.DirEntry[str]) -> str:
  """What is found in a directory: "folder", "image", or what it is left out as."""
  if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
    return "hidden"
  try:
    if entry.is_dir():
      return "folder"
    if entry.is_file():
      is_image = pathlib.PurePath(entry.name).suffix.lower() in SUFFIXES
      return "image" if is_image else "with other endings"
    entry.stat()
  except PermissionError:
    return "that cannot be read"
  except OSError:
    return "linked to nowhere"
  return "as a pipe or device"


def _is_named_directory(path: pathlib.Path) -> bool:
  """A path that cannot be looked at is taken for a file, and reported when that is read."""
  try:
    return path.is_dir()
  except OSError:
    return False


def _identity(directory: pathlib.Path) -> tuple[int, int] | None:
  """Is the same by whichever links a directory is reached; None if it cannot be looked at."""
  try:
    status = directory.stat()
  except OSError:
    return None
  return status.st_dev, status.st_ino
