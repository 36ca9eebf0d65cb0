"""What a run remembers of its data, and whether they are still the same: data.json.

The names of the classes are in model.json, with the network that they belong to.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections

from speedpaper_jax.data import class_names
from speedpaper_jax.data.sources import Split, open_split
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.storage.run_directory import RunDirectory

NAME = "data.json"

_PURPOSES = {"train": "training images", "eval": "images to evaluate on"}
_CONSEQUENCES = {
  "train": "training goes on at the same position among them, which is that of other images",
  "eval": "evaluations before and after do not compare",
}


@dataclasses.dataclass(frozen=True)
class Images:
  """The images of one split.

  Attributes:
    split: its name, or an expression.
    examples: how many they are.
    files: a digest of the list of their files.
  """

  split: str
  examples: int
  files: str

  @classmethod
  def of(cls, name: str, split: Split) -> "Images":
    """Those of an opened split."""
    return cls(name, len(split), split.records.digest())

  @classmethod
  def from_json(cls, content: Any) -> "Images":
    """Reads what `dataclasses.asdict` gives.

    Raises:
      ValueError: it is something else.
    """
    kinds = {"split": str, "examples": int, "files": str}
    if (
      not isinstance(content, dict)
      or {name: type(value) for name, value in content.items()} != kinds
    ):
      raise ValueError(f"{content!r:.80} does not describe a split")
    return cls(**content)

  def are(self, other: "Images") -> bool:
    """Whether they are the same images, whatever their split is called."""
    return (self.examples, self.files) == (other.examples, other.files)

  def beside(self, before: "Images") -> str:
    """Both numbers, in words."""
    if self.examples == before.examples:
      return f"{self.examples} before and now, but of other files"
    return f"{before.examples} before, {self.examples} now"


@dataclasses.dataclass(frozen=True)
class RunData:
  """The data that a run is trained on.

  Attributes:
    class_names: in the order of their labels.
    images: those of each purpose, "train" and "eval".
  """

  class_names: tuple[str, ...]
  images: dict[str, Images]

  def check_processes(self) -> None:
    """Compares the data that each process of the run has; all of them have to come here.

    Raises:
      UserError: in all processes, if one has other classes or images than the main one.
    """
    mine = dataclasses.asdict(self)
    main = hosts.from_main(lambda: mine)
    hosts.check_all(_other_than_main(main, mine))

  def check(self, directory: RunDirectory) -> None:
    """Compares the data with those of the run's earlier sessions; nothing is written.

    Other images of the same classes give a warning.

    Raises:
      UserError: the classes are others, or data.json is damaged.
    """
    for purpose, numbers in self._changes(directory):
      warn(
        f"the {_PURPOSES[purpose]} are others than in the run's earlier sessions ({numbers}); "
        f"{_CONSEQUENCES[purpose]}."
      )

  def check_equal(self, directory: RunDirectory) -> None:
    """As `check`, where a run is to be compared with others.

    Raises:
      UserError: the classes or the images are others, or data.json is damaged.
    """
    for purpose, numbers in self._changes(directory):
      raise UserError(
        f"'{directory.path}' holds a run with other {_PURPOSES[purpose]} ({numbers}); choose "
        "another --workdir, or remove that directory to do the run again."
      )

  def _changes(self, directory: RunDirectory) -> Iterator[tuple[str, str]]:
    """The purpose of images that have changed, and how many they are.

    Raises:
      UserError: the classes are others, or data.json is damaged.
    """
    if not (directory.has_checkpoint() or directory.has_result()):
      return  # the run begins anew
    before = _known_class_names(directory)
    if before and (difference := class_names.difference(before, self.class_names)):
      raise UserError(
        f"'{directory.path}' holds a run with other classes than the data have now: {difference}. "
        f"Choose another --workdir, with --config.init_from={directory.path} to start from its "
        "weights, or give the data their former classes back."
      )
    saved = _read(directory)
    for purpose, was in saved.images.items():
      if not self.images[purpose].are(was):
        yield purpose, self.images[purpose].beside(was)

  def save(self, directory: RunDirectory, step: int) -> None:
    """Writes data.json; the data of earlier sessions stay there, where they were others.

    Args:
      directory: of the run.
      step: after which these data are used.
    """
    saved = _read(directory) if step else _Saved()  # a run that begins anew has none
    others = {
      purpose: dataclasses.asdict(was)
      for purpose, was in saved.images.items()
      if not self.images[purpose].are(was)
    }
    changes = [*saved.changes, {"until_step": step, **others}] if others else saved.changes
    images = {purpose: dataclasses.asdict(images) for purpose, images in self.images.items()}
    directory.write(NAME, {**images, "changes": changes})


@dataclasses.dataclass(frozen=True)
class _Saved:
  """The content of data.json; nothing of a run that has none."""

  images: Mapping[str, Images] = dataclasses.field(default_factory=dict)
  changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def is_known(directory: RunDirectory) -> bool:
  """Whether a run has left word of its data."""
  return (directory.path / NAME).exists()


def open_data(config: ml_collections.ConfigDict) -> tuple[RunData, Split, Split]:
  """Opens the data of a config's section `data`, in all processes that come here.

  Returns:
    What there is to remember of them; the training images, and those to evaluate on.

  Raises:
    UserError: in all processes, if one cannot open them, or has others than the main one.
  """

  def open_both() -> tuple[Split, Split]:
    train, evaluation = (
      open_split(config.name, split, config.dir, config.split_seed)
      for split in (config.train_split, config.eval_split)
    )
    return train, evaluation

  train, evaluation = hosts.in_all(open_both)
  images = {
    "train": Images.of(config.train_split, train),
    "eval": Images.of(config.eval_split, evaluation),
  }
  data = RunData(train.class_names, images)
  data.check_processes()
  return data, train, evaluation


def _other_than_main(main: Mapping[str, Any], mine: Mapping[str, Any]) -> str | None:
  """What differs, in a sentence."""
  what = class_names.difference(main["class_names"], mine["class_names"])
  if what:
    what = f"other classes, {what}"
  for purpose in mine["images"]:
    there, here = (Images(**data["images"][purpose]) for data in (main, mine))
    if not what and not here.are(there):
      files = ", but other files" if here.examples == there.examples else ""
      what = f"{here.examples} {_PURPOSES[purpose]}, where that has {there.examples}{files}"
  if not what:
    return None
  return (
    f"Process {jax.process_index()} has other data than process 0: {what}. Give all processes the "
    "same data."
  )


def _known_class_names(directory: RunDirectory) -> list[str]:
  """Those of model.json; empty where it has none."""
  if not (directory.path / "model.json").exists():
    return []
  names = directory.read("model.json").get("class_names")
  return [str(name) for name in names] if isinstance(names, list) else []


def _read(directory: RunDirectory) -> _Saved:
  if not is_known(directory):
    return _Saved()
  try:
    content = directory.read(NAME)
    changes = content.pop("changes", [])
    if content.keys() - _PURPOSES or not isinstance(changes, list):
      raise ValueError("it has other keys, or values")
    images = {name: Images.from_json(value) for name, value in content.items()}
    return _Saved(images, changes)
  except (UserError, ValueError) as error:
    raise UserError(
      f"{directory.path / NAME} is damaged ({error}); remove it, and the run goes on without a "
      "comparison with its earlier data."
    ) from error
