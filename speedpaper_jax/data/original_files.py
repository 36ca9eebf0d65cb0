"""A directory of original archives, or of folders that they are unpacked into."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

import tqdm

from speedpaper_jax.data import paths
from speedpaper_jax.data.image_archives import Archive, Folder, Tar, Zip, decompress, is_gzip
from speedpaper_jax.data.image_files import LeftOut
from speedpaper_jax.data.image_index import Images, Split
from speedpaper_jax.data.imagenet_labels import class_identifiers
from speedpaper_jax.errors import UserError, did_you_mean

_EXAMPLES = 3  # that a sentence names
_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Contents:
  """What the original files of a data set hold.

  Attributes:
    splits: in TFDS's order.
    found: a few words for each split.
    lacking: a few words for each difference from the whole data set.
  """

  splits: Sequence[Split]
  found: Sequence[str]
  lacking: Sequence[str]


class OriginalFiles:
  """The archives of a directory, which are closed with a stack, and what is left out of them."""

  def __init__(
    self, directory: pathlib.Path, unpacked: pathlib.Path, stack: contextlib.ExitStack
  ) -> None:
    """Opens nothing yet.

    Args:
      directory: of the files.
      unpacked: a file that may be written, for what a compressed archive holds; it is removed.
      stack: at whose end the archives are closed.
    """
    self.directory = directory
    self.left_out = LeftOut(directory)
    self._unpacked = unpacked
    self._stack = stack

  def find(self, file: str, folders: Iterable[str]) -> Archive | None:
    """Opens an archive, or else the first of some folders that is there.

    Args:
      file: the name of the archive; zip files end in .zip, the others are tar files.
      folders: the names of the folders.

    Raises:
      UserError: it is damaged or cannot be read.
    """
    path = self.directory / file
    if paths.is_file(path):
      archive = Zip(path, self.left_out) if path.suffix == ".zip" else self._tar(path)
      self._stack.callback(archive.close)
      return archive
    for folder in folders:
      if paths.is_directory(self.directory / folder):
        return Folder(self.directory / folder, self.left_out)
    return None

  def _tar(self, path: pathlib.Path) -> Tar:
    if not is_gzip(path):
      return Tar(path, self.left_out)
    self._stack.callback(self._unpacked.unlink, missing_ok=True)
    self._unpacked.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size
    with tqdm.tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False) as bar:
      decompress(path, self._unpacked, bar.update)
    return Tar(path, self.left_out, self._unpacked)


def found(split: str, images: Images, labels: Sequence[int], archive: Archive) -> str:
  """What was found of a split.

  Raises:
    UserError: nothing.
  """
  if not len(images):
    raise UserError(f"{archive.path} has no images in it; get it again.")
  classes = len(set(labels) - {-1})
  of_classes = f"of {classes:,} classes" if classes else "without labels"
  return f"{split}: {len(images):,} images {of_classes} in {archive.path}"


def lacking(archive: Archive, images: Images, expected: int) -> list[str]:
  """The difference of a number of images from the expected one."""
  if len(images) == expected:
    return []
  return [f"{archive.path} has {len(images):,} images, not {expected:,}"]


def label_of(identifier: str, archive: Archive) -> int:
  """The label of a class by its WordNet identifier.

  Raises:
    UserError: it is none of ImageNet's.
  """
  identifiers = class_identifiers()
  if identifier not in identifiers:
    raise UserError(
      f"{archive.path} has the class '{identifier}', which is none of ImageNet's 1,000; they are "
      "called by their WordNet identifiers, such as "
      f"n01440764.{did_you_mean(identifier, identifiers)}"
    )
  return identifiers[identifier]


def listed(names: Sequence[str]) -> str:
  """The first few names, for a sentence."""
  return ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")


def progress(items: Iterable[_Item], total: int) -> Iterable[_Item]:
  """Items with a bar of how many of those that a whole split has were found."""
  return tqdm.tqdm(
    items, "Finding images", total, unit=" images", unit_scale=True, leave=False, mininterval=1
  )
