"""The training images of a run that cannot be decoded: undecodable.jsonl, one to a line."""

import dataclasses
from collections.abc import Iterable, Mapping

from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import json_files, regular_files, rules
from speedpaper_jax.storage.run_directory import RunDirectory

NAME = "undecodable.jsonl"

_RULES: Mapping[str, rules.Rule] = {"name": rules.TEXT, "reason": rules.TEXT, "step": rules.STEP}


@dataclasses.dataclass(frozen=True)
class UndecodableImage:
  """One of them.

  Attributes:
    name: as a table has it: the path of its file, or its number among the records.
    reason: why it cannot be decoded, in words.
    step: the first one that it was left out of.
  """

  name: str
  reason: str
  step: int


def read(directory: RunDirectory) -> list[UndecodableImage]:
  """Those of a run, in the order in which they were met; none where it has no such file.

  Lines that are damaged, as by a crash, are left out, with one warning.

  Raises:
    UserError: the file cannot be read.
  """
  path = directory.path / NAME
  try:
    lines = regular_files.read(path).splitlines()
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UserError(
      f"{path} cannot be read ({error.strerror}); put a copy of it back, or remove it."
    ) from error
  images, damaged = [], []
  for number, line in enumerate(lines, 1):
    try:
      entry = json_files.loads(line)
      rules.check(entry, _RULES)
      images.append(UndecodableImage(**{name: entry[name] for name in _RULES}))
    except (UserError, ValueError) as error:
      damaged.append(f"line {number}: {error}")
  if damaged:
    which = "a damaged line" if len(damaged) == 1 else f"{len(damaged)} damaged lines"
    warn(f"{which} of {path} left out ({damaged[0]}).")
  return images


def append(directory: RunDirectory, images: Iterable[UndecodableImage]) -> None:
  """Adds a line for each.

  Raises:
    UserError: the directory cannot be written.
  """
  with directory.writing(), (directory.path / NAME).open("a", encoding="utf-8") as file:
    file.write(_lines(images))


def forget_after(directory: RunDirectory, step: int) -> None:
  """Drops those that were first met in steps that a resumed run takes again.

  Raises:
    UserError: the directory cannot be written.
  """
  if kept := [image for image in read(directory) if image.step <= step]:
    directory.write_text(NAME, _lines(kept))
  else:
    directory.remove(NAME)


def _lines(images: Iterable[UndecodableImage]) -> str:
  return "".join(json_files.dumps(dataclasses.asdict(image)) + "\n" for image in images)
