"""A folder of images: its classes, and the splits that it is divided into by hand."""

import dataclasses
import pathlib
import unicodedata
from collections.abc import Collection, Mapping
from typing import NamedTuple

from speedpaper_jax.data.image_files import (
  SUFFIXES,
  LeftOut,
  images_below,
  kind_of,
  list_directory,
)
from speedpaper_jax.errors import UserError, did_you_mean

SPLITS = ("train", "validation", "test")
# What people call the folders of the splits, in small letters.
_SPLIT_OF = {
  "train": "train",
  "training": "train",
  "val": "validation",
  "valid": "validation",
  "validation": "validation",
  "test": "test",
}


class Photograph(NamedTuple):
  """An image file.

  Attributes:
    path: of the file.
    name: its path below the folder of its class, with slashes, in Unicode's composed form.
  """

  path: pathlib.Path
  name: str


Classes = dict[str, list[Photograph]]  # by the class's name


@dataclasses.dataclass(frozen=True)
class Contents:
  """What a folder of images holds.

  Attributes:
    classes: names, in alphabetical order and in Unicode's composed form.
    divided: whether there is a folder for each split.
    splits: the images; "train" alone where the folder is not divided by hand.
    folders: of the splits.
    left_out: what is no part of them.
  """

  classes: tuple[str, ...]
  divided: bool
  splits: Mapping[str, Classes]
  folders: Mapping[str, pathlib.Path]
  left_out: LeftOut


def read(folder: pathlib.Path) -> Contents:
  """Finds the classes and the images.

  Args:
    folder: of the classes' folders, or of the splits' folders with these in them: "train" (or
      "training"), and any of "val" ("valid", "validation") and "test".

  Raises:
    UserError: the folder or a class cannot be read, there are fewer than two classes, or the
      splits do not have the same ones.
  """
  left_out = LeftOut(folder)
  folders = _split_folders(folder)
  divided = "train" in folders and len(folders) > 1
  if divided:
    _count_the_rest(folder, folders.values(), left_out)
  else:
    folders = {"train": folder}
  splits = {split: _classes_of(path, left_out) for split, path in folders.items()}
  if not divided:
    _check_no_split(folder, splits["train"])
  names = tuple(splits["train"])
  if len(names) < 2:
    raise UserError(
      f"'{folders['train']}' has {len(names)} folders with images in them; it needs one for each "
      f"class, two at least. Files that end in {', '.join(SUFFIXES)} are taken for images."
      f"{f' Left out: {left_out}.' if left_out else ''}"
    )
  for split, path in folders.items():
    _check_classes(splits[split], path, names, folders["train"])
  return Contents(names, divided, splits, folders, left_out)


def _split_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  found: dict[str, pathlib.Path] = {}
  for entry in list_directory(folder):
    split = _SPLIT_OF.get(entry.name.lower())
    if split is None or kind_of(entry) != "folder":
      continue
    if split in found:
      raise UserError(
        f"'{folder}' has two folders for one split, '{found[split].name}' and '{entry.name}'; "
        "remove or rename one."
      )
    found[split] = folder / entry.name
  return {split: found[split] for split in SPLITS if split in found}


def _count_the_rest(
  folder: pathlib.Path, folders: Collection[pathlib.Path], left_out: LeftOut
) -> None:
  for entry in list_directory(folder):
    path, kind = folder / entry.name, kind_of(entry)
    if path not in folders:
      left_out.add("beside the splits' folders" if kind in ("folder", "image") else kind, path)


def _classes_of(folder: pathlib.Path, left_out: LeftOut) -> Classes:
  """Images of one split by class; folders of one name in two Unicode forms are one class."""
  classes: Classes = {}
  for entry in list_directory(folder):
    path, kind = folder / entry.name, kind_of(entry)
    if kind == "image":
      left_out.add("beside the classes' folders", path)
    elif kind != "folder":
      left_out.add(kind, path)
    elif images := images_below(path, left_out):
      photographs = classes.setdefault(_composed(entry.name), [])
      photographs += [
        Photograph(image, _composed(image.relative_to(path).as_posix())) for image in images
      ]
    else:
      left_out.add("without images", path)
  return dict(sorted(classes.items()))


def _composed(name: str) -> str:
  """Because macOS writes 'é' as two characters where others write one."""
  return unicodedata.normalize("NFC", name)


def _check_no_split(folder: pathlib.Path, classes: Classes) -> None:
  """A split's folder, full of classes, must not be taken for a class."""
  for name, photographs in classes.items():
    if name.lower() in _SPLIT_OF and all("/" in photograph.name for photograph in photographs):
      raise UserError(
        f"'{folder}/{name}' looks like a split with folders of classes in it, not like a class; "
        f"put 'train' and one of 'val' and 'test' into '{folder}', or name '{folder}/{name}' "
        "itself, of which a tenth is then held out."
      )


def _check_classes(
  classes: Classes, folder: pathlib.Path, names: tuple[str, ...], train: pathlib.Path
) -> None:
  for name in classes:
    if name not in names:
      raise UserError(
        f"The class '{name}' of '{folder}' is none of the classes in '{train}'; name the folders "
        f"of both alike.{did_you_mean(name, names)}"
      )
