"""A user's own photographs as a data set: a folder with one sub-folder a class.

FOLDER/<class>/*.jpg is divided here, a tenth of each class being held out as "test". Where the
folder has FOLDER/train/<class> and FOLDER/test/<class>, these are the splits. TFDS's `ImageFolder`
knows the second form alone, and reads it with TensorFlow.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from speedpaper_jax.data.image_files import SUFFIXES
from speedpaper_jax.data.records import digest_of
from speedpaper_jax.errors import UserError, did_you_mean

NAME = "folder"
SPLITS = ("train", "test")

_HELD_OUT = 10  # one image in so many

Photograph = tuple[pathlib.Path, int]  # file and class number


class FolderSource:
  """Encoded images with the number of their class, read when asked for."""

  def __init__(self, photographs: Sequence[Photograph], classes: Sequence[str]) -> None:
    self._photographs = photographs
    self._classes = classes

  def __len__(self) -> int:
    return len(self._photographs)

  def __getitem__(self, index: int) -> dict[str, Any]:
    path, label = self._photographs[index]
    try:
      return {"image": path.read_bytes(), "label": label}
    except OSError as error:
      raise UserError(f"The image {path} cannot be read: {error.strerror}.") from error

  def name(self, index: int) -> str:
    """Names the file."""
    return f"the image '{self._photographs[index][0]}'"

  def digest(self) -> str:
    """Of the images' classes, names and sizes in bytes."""
    return digest_of(
      (self._classes[label], path.name, path.stat().st_size) for path, label in self._photographs
    )


def open_folder(folder: pathlib.Path, split: str) -> tuple[FolderSource, tuple[str, ...]]:
  """Opens one split of a folder of images.

  Args:
    folder: of the classes' folders, or of "train" and "test" with these in them.
    split: "train" or "test", or a part of one such as "train[:90%]".

  Returns:
    The images, in a fixed order, and the names of the classes, in alphabetical order.

  Raises:
    UserError: there is no such folder or split, or it has no classes or no images.
  """
  if not folder.is_dir():
    raise UserError(
      f"There is no folder '{folder}'; name one that has a folder of images for each class with "
      "--config.data.dir."
    )
  divided = all((folder / name).is_dir() for name in SPLITS)
  classes = _classes(folder / "train" if divided else folder)
  splits = {name: _photographs(folder, classes, name, divided) for name in SPLITS}
  parts = [splits[name][start:stop] for name, start, stop in _instructions(split, splits, folder)]
  chosen = [photograph for part in parts for photograph in part]
  if not chosen:
    raise UserError(f"The split '{split}' of '{folder}' has no images; choose another split.")
  return FolderSource(chosen, classes), classes


def _classes(folder: pathlib.Path) -> tuple[str, ...]:
  names = sorted(path.name for path in folder.iterdir() if path.is_dir())
  names = [name for name in names if any(_images(folder / name))]
  if len(names) < 2:
    raise UserError(
      f"'{folder}' has {len(names)} folders with images in them; it needs one for each class, two "
      f"at least. Files that end in {', '.join(SUFFIXES)} are taken for images."
    )
  return tuple(names)


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES]


def _photographs(
  folder: pathlib.Path, classes: Sequence[str], split: str, divided: bool
) -> list[Photograph]:
  base = folder / split if divided else folder
  photographs = [
    (path, label) for label, name in enumerate(classes) for path in _images(base / name)
  ]
  if not divided:
    photographs = [found for found in photographs if _is_held_out(found) == (split == "test")]
  return sorted(photographs, key=_digest)  # mixed, so that a part of a split has all classes


def _is_held_out(photograph: Photograph) -> bool:
  # By the name's digest an image stays in its split when others come or go.
  return _digest(photograph) % _HELD_OUT == 0


def _digest(photograph: Photograph) -> int:
  path, _ = photograph
  name = f"{path.parent.name}/{path.name}".encode(errors="surrogateescape")
  return int.from_bytes(hashlib.sha256(name).digest(), "big")


def _instructions(
  split: str, splits: dict[str, list[Photograph]], folder: pathlib.Path
) -> list[tuple[str, int | None, int | None]]:
  """TFDS's reading of a split expression."""
  infos = {
    name: tfds.core.SplitInfo(name=name, shard_lengths=[len(photographs)], num_bytes=0)
    for name, photographs in splits.items()
  }
  try:
    absolute = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
  except (KeyError, ValueError, AssertionError) as error:
    raise UserError(
      f"'{split}' is not a split of '{folder}', nor a part of one such as 'train[:90%]'."
      f"{did_you_mean(split, SPLITS)}"
    ) from error
  return [(part.splitname, part.from_, part.to) for part in absolute]
