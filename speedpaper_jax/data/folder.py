"""A user's own photographs as a data set: a folder with one sub-folder a class.

FOLDER/<class>/*.jpg is divided here: of each class with two images or more, a tenth is held out,
at least one and never all; it is called both "validation" and "test". The images are chosen by a
hash of a seed and their name within their class: not the class's name nor the folder's place, so
that renaming either moves no image between the splits, and where an image is added or removed, at
most one other of its class moves. Each seed holds out another tenth, by chance with some of the
same images.

Where the folder has FOLDER/train/<class> and FOLDER/val/<class>, FOLDER/test/<class> or both, these
are the splits "train", "validation" and "test"; where one of val/ and test/ is missing, its name
means the other. The seed then changes the order alone, and with it which images a part such as
"train[:90%]" has. TFDS's `ImageFolder` knows this form alone, and reads it with TensorFlow.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from speedpaper_jax.data import class_folders, paths
from speedpaper_jax.data.class_folders import Classes, Contents, Photograph
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.records import digest_of
from speedpaper_jax.errors import UserError, did_you_mean, inform_once, warn_once
from speedpaper_jax.files import regular_files

NAME = "folder"

_HELD_OUT = 10  # one image in so many
_EITHER = {"validation": "test", "test": "validation"}  # where one is missing, it is the other
_NAMED = 5  # classes printed by name


class Example(NamedTuple):
  """An image and the number of its class."""

  photograph: Photograph
  label: int


class FolderSource:
  """Encoded images with the number of their class, read when asked for."""

  def __init__(self, examples: Sequence[Example], classes: Sequence[str]) -> None:
    self._examples = examples
    self._classes = classes

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> dict[str, Any]:
    (path, _), label = self._examples[index]
    try:
      return {"image": regular_files.read(path), "label": label}
    except OSError as error:
      raise DecodeError(f"it cannot be read ({error.strerror})") from error

  def name(self, index: int) -> str:
    """Names the file."""
    return f"the image '{self._examples[index].photograph.path}'"

  def short_name(self, index: int) -> str:
    """The path of the file."""
    return str(self._examples[index].photograph.path)

  def file_name(self, index: int) -> str:
    """The last part of its path."""
    return self._examples[index].photograph.path.name

  def labels(self) -> list[int]:
    """Of all images, as their folders say."""
    return [example.label for example in self._examples]

  def digest(self) -> str:
    """Of the images' classes, names and sizes in bytes."""
    return digest_of(
      (self._classes[label], name, _size(path)) for (path, name), label in self._examples
    )


def open_folder(
  folder: pathlib.Path, split: str, split_seed: int = 0
) -> tuple[FolderSource, tuple[str, ...]]:
  """Opens one split of a folder of images, and prints what is in the folder.

  Args:
    folder: of the classes' folders, or of the splits' folders with these in them.
    split: "train", "validation" or "test", or a part of one such as "train[:90%]".
    split_seed: of the choice of the images that are held out, and of their order.

  Returns:
    The images, in a fixed order, and the names of the classes, in alphabetical order.

  Raises:
    UserError: there is no such folder or split, or it has no images; or its classes will not do.
  """
  if not paths.is_directory(folder):
    raise UserError(
      f"There is no folder '{folder}'; name one that has a folder of images for each class with "
      "--config.data.dir."
    )
  contents = class_folders.read(folder)
  splits = contents.splits if contents.divided else _divide(contents.splits["train"], split_seed)
  examples = {
    name: _mixed(classes, contents.classes, split_seed) for name, classes in splits.items()
  }
  for name, other in _EITHER.items():
    if name not in splits:
      examples[name] = examples[other]
  parts = [
    examples[name][start:stop] for name, start, stop in _instructions(split, examples, folder)
  ]
  _print(folder, contents, splits, split_seed)
  # "test" and "validation" may be one folder: no image comes twice.
  chosen = list(dict.fromkeys(example for part in parts for example in part))
  if not chosen:
    raise UserError(f"The split '{split}' of '{folder}' has no images; choose another split.")
  return FolderSource(chosen, contents.classes), contents.classes


def _divide(classes: Classes, seed: int) -> dict[str, Classes]:
  splits: dict[str, Classes] = {"train": {}, "test": {}}
  for name, photographs in classes.items():
    by_hash = sorted(photographs, key=lambda photograph: _hash(photograph, seed))
    count = _number_held_out(len(photographs))
    splits["test"][name], splits["train"][name] = by_hash[:count], by_hash[count:]
  return splits


def _number_held_out(count: int) -> int:
  """A tenth, rounded; at least one, where one is left for training."""
  return max(round(count / _HELD_OUT), 1) if count > 1 else 0


def _mixed(classes: Classes, names: Sequence[str], seed: int) -> list[Example]:
  """In an order that mixes the classes, so that a part of a split has all of them."""
  examples = [
    Example(photograph, label)
    for label, name in enumerate(names)
    for photograph in classes.get(name, [])
  ]
  return sorted(examples, key=lambda example: (_hash(example.photograph, seed), example.label))


def _hash(photograph: Photograph, seed: int) -> bytes:
  # Of the name alone at 0, as before there were seeds; no name has a NUL in it.
  salted = f"{seed}\0{photograph.name}" if seed else photograph.name
  return hashlib.sha256(salted.encode(errors="surrogateescape")).digest()


def _size(path: pathlib.Path) -> int:
  """In bytes; -1 where the file is gone, which is reported when it is read."""
  try:
    return path.stat().st_size
  except OSError:
    return -1


def _print(
  folder: pathlib.Path, contents: Contents, splits: Mapping[str, Classes], split_seed: int
) -> None:
  """Tells once what was found, what was left out, and which classes cannot be evaluated."""
  counts = {
    split: sum(len(photographs) for photographs in classes.values())
    for split, classes in splits.items()
  }
  if contents.divided:
    named = [f"{count:,} in {contents.folders[split].name}" for split, count in counts.items()]
    named += [
      f"the split '{name}' being {contents.folders[other].name}"
      for name, other in _EITHER.items()
      if name not in splits
    ]
  else:
    by_seed = f" by the seed {split_seed}" if split_seed else ""
    held_out = f"{counts['test']:,} held out{by_seed} as 'validation' and 'test'"
    named = [f"{counts['train']:,} to train on", held_out]
  inform_once(
    f"'{folder}' has {len(contents.classes):,} classes and {sum(counts.values()):,} images: "
    f"{', '.join(named)}."
  )
  if contents.left_out:
    warn_once(f"left out of '{folder}': {contents.left_out}.")
  for split, classes in splits.items():
    missing = [name for name in contents.classes if not classes.get(name)]
    if missing and counts[split]:
      listed = ", ".join(f"'{name}'" for name in missing[:_NAMED])
      more = ", …" if len(missing) > _NAMED else ""
      warn_once(
        f"the split '{split}' of '{folder}' has no images of {len(missing)} of the classes: "
        f"{listed}{more}."
      )


def _instructions(
  split: str, splits: Mapping[str, Sequence[Example]], folder: pathlib.Path
) -> list[tuple[str, int | None, int | None]]:
  """TFDS's reading of a split expression."""
  infos = {
    name: tfds.core.SplitInfo(name=name, shard_lengths=[len(examples)], num_bytes=0)
    for name, examples in splits.items()
  }
  try:
    absolute = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
  except (KeyError, ValueError, AssertionError) as error:
    raise UserError(
      f"'{split}' is not a split of '{folder}', nor a part of one such as 'train[:90%]'."
      f"{did_you_mean(split, splits)}"
    ) from error
  return [(part.splitname, part.from_, part.to) for part in absolute]
