"""Some of the images of a split, in their order."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from speedpaper_jax.data import validation_labels
from speedpaper_jax.data.records import Source, digest_of
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError


class Selected:
  """Some records of a source."""

  def __init__(self, records: Source, numbers: Sequence[int]) -> None:
    """Takes their numbers in the source."""
    self._records = records
    self._numbers = list(numbers)

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._records[self._numbers[index]]

  def name(self, index: int) -> str:
    """As among all."""
    return self._records.name(self._numbers[index])

  def short_name(self, index: int) -> str:
    """As among all."""
    return self._records.short_name(self._numbers[index])

  def file_name(self, index: int) -> str | None:
    """As among all."""
    return self._records.file_name(self._numbers[index])

  def labels(self) -> list[int] | None:
    """Of these."""
    labels = self._records.labels()
    return None if labels is None else [labels[number] for number in self._numbers]

  def digest(self) -> str:
    """Of that of all, and of which ones these are."""
    return digest_of([(self._records.digest(), *self._numbers)])


def select(split: Split, mask: np.ndarray) -> Split:
  """The images of a split for which `mask`, bool [N], is true."""
  numbers = np.flatnonzero(mask).tolist()
  return dataclasses.replace(split, records=Selected(split.records, numbers), undecodable={})


class Chosen(NamedTuple):
  """What is left of a split.

  Attributes:
    split: its images.
    right: the classes that are right for each of them, one or more; None for their labels.
    told: what was left out and what does not match, in sentences.
  """

  split: Split
  right: list[tuple[int, ...]] | None
  told: list[str]


def choose(
  split: Split,
  excluded: Collection[str] | None = None,
  labels: Mapping[str, tuple[int, ...]] | None = None,
) -> Chosen:
  """Leaves out images of a list, and those without a right class among other labels.

  Args:
    split: with ImageNet's validation images, whose records are read for their names.
    excluded: of `validation_labels.read_excluded`.
    labels: of `validation_labels.read_right_labels`.

  Raises:
    UserError: nothing matches, the classes are others, or no image is left.
  """
  names = validation_labels.names_of(split)
  keep, told, right = np.ones(len(split), bool), [], None
  if excluded is not None:
    found = validation_labels.excluded_of(names, excluded)
    keep &= ~found.mask
    told += [
      f"{np.count_nonzero(found.mask):,} of the {len(split):,} images are left out.",
      found.told,
    ]
  if labels is not None:
    of_images = validation_labels.right_labels_of(split, names, labels)
    has_right = np.array([bool(classes) for classes in of_images.of_records])
    without = np.count_nonzero(keep & ~has_right)
    keep &= has_right
    told += [
      f"{without:,} images without a right class are left out." if without else "",
      of_images.told,
    ]
    right = [
      classes for classes, kept in zip(of_images.of_records, keep, strict=True) if kept and classes
    ]
  if not keep.any():
    raise UserError("No image is left to evaluate on; leave out fewer.")
  return Chosen(select(split, keep), right, [sentence for sentence in told if sentence])
