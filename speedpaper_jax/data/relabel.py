"""Data that are labelled for other class numbers than a network's, of the same classes by name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from speedpaper_jax.data import class_names
from speedpaper_jax.data.records import Source
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError, did_you_mean

_NO_CLASS = -1  # as TFDS labels what has none


class Relabelled:
  """Records with other labels."""

  def __init__(self, records: Source, numbers: Sequence[int]) -> None:
    """Takes the new number of each class."""
    self._records = records
    self._numbers = numbers

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    record = self._records[index]
    label = int(record["label"])
    known = 0 <= label < len(self._numbers)
    return {**record, "label": self._numbers[label] if known else _NO_CLASS}

  def name(self, index: int) -> str:
    """As without the new labels."""
    return self._records.name(index)

  def short_name(self, index: int) -> str:
    """As without the new labels."""
    return self._records.short_name(index)

  def file_name(self, index: int) -> str | None:
    """As without the new labels."""
    return self._records.file_name(index)

  def labels(self) -> list[int] | None:
    """With the new numbers."""
    labels = self._records.labels()
    return None if labels is None else [self._numbers[label] for label in labels]

  def digest(self) -> str:
    """As without the new labels."""
    return self._records.digest()


def by_name(split: Split, names: Sequence[str]) -> tuple[Split, str]:
  """Gives the examples the numbers that their classes have among a network's.

  Args:
    split: whose classes are all among `names`, in any order.
    names: of the network's classes.

  Returns:
    The split with the network's classes, and what was done, in a sentence; "" if nothing was.

  Raises:
    UserError: the split has classes that the network has not, or no names of them are known.
  """
  if class_names.same(split.class_names, names):
    return split, ""
  if not names:
    raise UserError(
      "The network has no names of its classes, so that nothing says which of the data's they are; "
      "give them in the order of its outputs with --class_names=FILE when you convert it."
    )
  numbers = class_names.positions(split.class_names, names)
  if numbers is None:
    raise UserError(_unknown(split.class_names, names))
  part = f"{len(numbers)} of " if len(numbers) < len(names) else ""
  order = "" if numbers == tuple(sorted(numbers)) else " in another order"
  relabelled = dataclasses.replace(
    split,
    records=Relabelled(split.records, numbers),
    num_classes=len(names),
    class_names=tuple(names),
  )
  return relabelled, (
    f"the data have {part}the network's {len(names)} classes{order}; labels go by their names."
  )


def _unknown(names: Sequence[str], known: Sequence[str]) -> str:
  unknown = class_names.missing(names, known)
  if not unknown:
    return (
      "Two classes of the network or of the data have the same name, so that their labels cannot "
      "be distinguished; rename one."
    )
  return (
    f"The data have classes that the network does not know: {class_names.listed(unknown)}."
    f"{did_you_mean(unknown[0], known)} Rename the data's classes, or choose data of the network's."
  )
