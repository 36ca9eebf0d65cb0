"""Classes are distinguished by their names, never by their numbers or by how many there are.

Two spellings are one name: Unicode's composed and decomposed forms, of which file systems make one
from the other, and ImageNet's WordNet identifiers and English names.
"""

import unicodedata
from collections.abc import Iterable, Sequence

from speedpaper_jax.data.imagenet_classes import english_name

_LISTED = 3


def same(first: Sequence[str], second: Sequence[str]) -> bool:
  """Whether both are the same classes in the same order."""
  return _canonical(first) == _canonical(second)


def positions(names: Sequence[str], among: Sequence[str]) -> tuple[int, ...] | None:
  """Where each of `names` stands in `among`; None where that is not certain for all of them.

  It is not where a name is missing, or one stands for two classes.
  """
  wanted, found = _canonical(names), _canonical(among)
  if len(set(wanted)) < len(wanted) or len(set(found)) < len(found):
    return tuple(range(len(found))) if wanted == found else None
  number = {name: index for index, name in enumerate(found)}
  return tuple(number[name] for name in wanted) if number.keys() >= set(wanted) else None


def missing(names: Sequence[str], among: Sequence[str]) -> list[str]:
  """Those of `names` that are not in `among`, in their order."""
  found = set(_canonical(among))
  return [
    name for name, canonical in zip(names, _canonical(names), strict=True) if canonical not in found
  ]


def difference(before: Sequence[str], now: Sequence[str]) -> str:
  """Says how two lists of classes differ, such as "new 'ant', 'bee', gone 'wasp'".

  Returns:
    "" where they do not.
  """
  if same(before, now):
    return ""
  new, gone = missing(now, before), missing(before, now)
  parts = [f"{what} {listed(names)}" for what, names in (("new", new), ("gone", gone)) if names]
  if parts:
    return ", ".join(parts)
  if len(before) != len(now):
    return f"{len(before)} classes before and {len(now)} now, of which some have the same name"
  was, is_now = _canonical(before), _canonical(now)
  first = next(index for index in range(len(now)) if was[index] != is_now[index])
  return f"another order: class {first} was '{before[first]}' and is '{now[first]}'"


def listed(names: Iterable[str]) -> str:
  """The first names in quotes, and how many more there are."""
  names = list(names)
  first = ", ".join(f"'{name}'" for name in names[:_LISTED])
  return f"{first} and {len(names) - _LISTED} more" if len(names) > _LISTED else first


def _canonical(names: Sequence[str]) -> list[str]:
  return [english_name(unicodedata.normalize("NFC", name)) for name in names]
