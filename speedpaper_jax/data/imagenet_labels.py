"""TFDS's labels of ImageNet, and of its validation images by their names."""

import functools
import re

# Images of each split of imagenet2012.
COUNTS = {"train": 1_281_167, "validation": 50_000, "test": 100_000}
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


@functools.cache
def class_identifiers() -> dict[str, int]:
  """TFDS's labels of ImageNet's classes by their WordNet identifiers."""
  return {name: label for label, name in enumerate(_lines("labels.txt"))}


@functools.cache
def _validation_labels() -> list[int]:
  """Labels of the validation images 1, 2, …, in TFDS's list."""
  return [class_identifiers()[name] for name in _lines("validation_labels.txt")]


def _lines(file: str) -> list[str]:
  import tensorflow_datasets as tfds  # most who import this module ask for no label

  path = tfds.core.tfds_path(f"datasets/imagenet2012/{file}")
  return path.read_text(encoding="utf-8").split()


def listed_label(name: str) -> int | None:
  """The label of a validation image by its file's name; None where that is no such name."""
  number = validation_number(name)
  return None if number is None else _validation_labels()[number - 1]


def file_name(number: int) -> str:
  """Of a validation image by its number, which begins at 1: "ILSVRC2012_val_00000001.JPEG"."""
  return f"ILSVRC2012_val_{number:08d}.JPEG"


def validation_number(name: str) -> int | None:
  """1 for "ILSVRC2012_val_00000001.JPEG", and so on to 50,000; None for other names."""
  match = _VALIDATION_NAME.fullmatch(name)
  return int(match[1]) if match and 1 <= int(match[1]) <= COUNTS["validation"] else None
