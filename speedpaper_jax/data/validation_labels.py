"""Other labels of ImageNet's validation images, and lists of those to leave out.

Two kinds of file, both by the images' own numbers, ILSVRC2012_val_00000001.JPEG to …50000.JPEG:

- `real.json`, see `real_labels`: for each image all classes that are right, of some none
- a list of images to leave out, a line each: `ILSVRC2014_clsloc_validation_blacklist.txt` of the
  challenge's development kit of 2014 has 1,762 numbers; the kit is to be had where the challenge's
  data are, https://image-net.org/challenges/LSVRC/2014/

Records are matched by their names: prepared data sets have them in an order of their own.
"""

import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from speedpaper_jax.data import class_names, imagenet_classes, real_labels
from speedpaper_jax.data.imagenet_labels import file_name
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import regular_files

IMAGES = 50_000

_STEM = re.compile(r"ILSVRC2012_val_([0-9]{8})")
_NUMBER = re.compile(r"[0-9]{1,8}")


class RightLabels(NamedTuple):
  """The right classes of the records of a split.

  Attributes:
    of_records: of each record the numbers that these classes have in the split; empty where none is
      right, or none that the split has; None where nothing is known of the record.
    told: how many records nothing is known of, in a sentence; "" where it is none.
  """

  of_records: list[tuple[int, ...] | None]
  told: str


class Excluded(NamedTuple):
  """The records of a split that a list leaves out.

  Attributes:
    mask: bool [N], true for them.
    told: how many of the list's images and of the records do not match, in a sentence; "" where all
      images of the list are in the split, and all records have names.
  """

  mask: np.ndarray
  told: str


def read_right_labels(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
  """Reads `real.json`.

  Args:
    path: of the file.

  Returns:
    The right classes of each image by its file's name, 0 to 999; of some images none.

  Raises:
    UserError: there is no such file, it is damaged, has another number of images, or other classes.
  """
  content = real_labels.read(path)
  if len(content) != IMAGES:
    raise UserError(
      f"'{path}' has {len(content):,} entries, not the {IMAGES:,} of ImageNet's validation images; "
      f"name {real_labels.WHAT}."
    )
  return {
    file_name(number): tuple(dict.fromkeys(classes)) for number, classes in enumerate(content, 1)
  }


def read_excluded(path: pathlib.Path) -> frozenset[str]:
  """Reads a list of images, one to a line: names of their files, or their numbers from 1 on.

  Args:
    path: of the file; empty lines do not count.

  Returns:
    The names of their files.

  Raises:
    UserError: there is no such file, it is no text, a line is none of the images, or there is none.
  """
  try:
    content = regular_files.read_named(path, "the list of images to leave out")
    lines = content.decode("utf-8-sig").splitlines()
  except UnicodeDecodeError as error:
    raise UserError(f"'{path}' is no text; it has to have an image to a line.") from error
  excluded = set()
  for place, line in enumerate(lines, 1):
    if not (entry := line.strip()):
      continue
    name = file_name(int(entry)) if _is_number(entry) else _canonical(entry)
    if name is None:
      raise UserError(
        f"'{path}' has '{entry:.60}' in line {place}, which is none of ImageNet's validation "
        f"images; give names from '{file_name(1)}' on, or numbers from 1 to {IMAGES}."
      )
    excluded.add(name)
  if not excluded:
    raise UserError(f"'{path}' lists no images; name a file with one to a line.")
  return frozenset(excluded)


def names_of(split: Split) -> list[str | None]:
  """Which of ImageNet's validation images the records of a split are; each record is read for it.

  Args:
    split: whose records have the names of their files, as those of TFDS's "imagenet2012" and of
      folders.

  Returns:
    For each record the name of its file as `file_name` gives it; None where it is another one's, or
    not known.

  Raises:
    UserError: there is none of these images.
  """
  own = [split.records.file_name(number) for number in range(len(split))]
  names = [None if name is None else _canonical(name) for name in own]
  if not any(names):
    known = [name for name in own if name is not None]
    first = f"the first is called '{known[0]}'" if known else "nothing says how they are called"
    raise UserError(
      f"None of the {len(split):,} images is one of ImageNet's validation images by its name: "
      f"{first}, not as '{file_name(1)}'; evaluate on the split 'validation' of 'imagenet2012', or "
      "on a folder of the original files."
    )
  return names


def right_labels_of(
  split: Split, names: Sequence[str | None], labels: Mapping[str, tuple[int, ...]]
) -> RightLabels:
  """Gives the records their right classes.

  Args:
    split: whose classes are ImageNet's, or some of them, or they and others, in any order.
    names: of `names_of`.
    labels: of `read_right_labels`.

  Raises:
    UserError: the classes are others.
  """
  number = _numbers_in(split.class_names)
  of_records = [
    None if name is None else tuple(number[label] for label in labels[name] if label in number)
    for name in names
  ]
  unknown = sum(name is None for name in names)
  told = f"{_of(unknown, len(names))}: no right labels are known of them."
  return RightLabels(of_records, told if unknown else "")


def excluded_of(names: Sequence[str | None], excluded: Collection[str]) -> Excluded:
  """Finds the records that a list leaves out.

  Args:
    names: of `names_of`.
    excluded: of `read_excluded`.

  Raises:
    UserError: it is none of them.
  """
  mask = np.array([name in excluded for name in names])
  absent = len(set(excluded) - set(names))
  if absent == len(excluded):
    raise UserError(
      f"None of the {len(excluded):,} images to leave out is among the {len(names):,} of the "
      "split; name a list of images of this split."
    )
  told = []
  if absent:
    told.append(f"{absent:,} of the {len(excluded):,} images to leave out are not in the split")
  if unknown := sum(name is None for name in names):
    told.append(f"{_of(unknown, len(names))}: none of them is left out")
  return Excluded(mask, f"{'; '.join(told)}." if told else "")


def _is_number(text: str) -> bool:
  return bool(_NUMBER.fullmatch(text)) and 1 <= int(text) <= IMAGES


def _canonical(name: str) -> str | None:
  """The name of an image's file without folders, whatever its ending; None for another file."""
  found = _STEM.fullmatch(pathlib.PurePosixPath(name).stem)
  return file_name(int(found[1])) if found and _is_number(found[1]) else None


def _numbers_in(names: Sequence[str]) -> dict[int, int]:
  """ImageNet's numbers of classes → those of a split, as far as it has them."""
  imagenet = imagenet_classes.class_names()
  if (positions := class_names.positions(imagenet, names)) is not None:
    return dict(enumerate(positions))
  if (positions := class_names.positions(names, imagenet)) is not None:
    return {number: position for position, number in enumerate(positions)}
  raise UserError(
    "The classes of the data are not ImageNet's, so that right labels cannot be given to them: "
    f"{class_names.listed(class_names.missing(names, imagenet))}."
  )


def _of(unknown: int, count: int) -> str:
  return f"{unknown:,} of the {count:,} images have no name of one of ImageNet's validation images"
