"""What a run leaves behind, and where.

config.json       the config, complete
model.json        the network: name, dialect, classes, preprocessing
data.json         of the images that it is trained and evaluated on: "split", the number of
                  "examples" and a digest of the list of "files"; under "changes" those of earlier
                  sessions that were others, each "until_step"
metrics.jsonl     one JSON object a line, with "step" and "split" ("train" or "eval")
undecodable.jsonl of runs that have such: the training images that cannot be decoded; see
                  `undecodable`
sessions.json     each start of a training run, from which step to which; see `sessions`
summary.json      the result, written when the run has ended
predictions.json  of runs that are asked for it: "step", and under "images" of each held-out image
                  its "name", "class" and "class_probability", the "predicted" class and its
                  "probability"; of the worst mistakes "shown", the row in `mistake_pixels`
arrays.npz        numbers that are many, of runs that have such; `mistake_pixels` of predictions
probabilities.npz of ensembles: "probabilities" [members, N, classes] of the held-out images, their
                  "labels" [N] and the names of the "members"
checkpoints/      Orbax
tensorboard/      the metrics again, as TensorBoard events
plots/*.png       figures, each for a light page and, as *.dark.png, for a dark one
report.html       all of it to read
"""

import contextlib
import datetime
import io
import itertools
import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import ml_collections
import numpy as np

from speedpaper_jax.config import saved
from speedpaper_jax.config.files import flat_keys
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import json_files, lock, regular_files, rules
from speedpaper_jax.storage import resuming

PREDICTIONS = "predictions.json"
PROBABILITIES = "probabilities.npz"
MOST_MISTAKES = 16  # whose pixels are kept

_METRIC = rules.or_nothing(rules.RESULT)  # None where it was not finite
_METRICS: dict[str, Any] = {
  "step": rules.STEP,
  "split": rules.one_of(("train", "eval")),
  "top1": rules.IfPresent(rules.or_nothing(rules.FRACTION)),
  "top5": rules.IfPresent(rules.or_nothing(rules.FRACTION)),
  "left_out": rules.IfPresent(rules.COUNT),
  "undecodable_images": rules.IfPresent(rules.COUNT),
}


class RunDirectory:
  """The directory of one run."""

  def __init__(self, path: pathlib.Path) -> None:
    """Names the files; nothing is written yet."""
    self.path = path
    self._made: list[pathlib.Path] = []
    self.checkpoints = path / "checkpoints"
    self.tensorboard = path / "tensorboard"
    self.plots = path / "plots"
    self._warned_of_metrics = False

  def read(self, name: str) -> dict[str, Any]:
    """Reads one of the JSON files.

    Raises:
      UserError: it is missing or damaged.
    """
    path = self.path / name
    try:
      return json_files.read(path)
    except FileNotFoundError:
      raise UserError(
        f"'{self.path}' is not the directory of a run: it has no {name}. Name the --workdir of "
        f"a training run, or a directory of converted weights; `python -m speedpaper_jax.weights` "
        f"lists published ones."
      ) from None
    except (ValueError, OSError) as error:
      reason = error.strerror if isinstance(error, OSError) else error
      raise UserError(
        f"{path} cannot be read ({reason}); put a copy of it back, or train in another --workdir."
      ) from error

  def read_config(self) -> dict[str, Any]:
    """Reads config.json, laid over today's defaults, see `config.saved`.

    Raises:
      UserError: it is missing or damaged, no config can have such keys, or it has a field that this
        version does not know.
    """
    content = self.read("config.json")
    try:
      ml_collections.ConfigDict(content)
      return saved.complete(content)
    except (AttributeError, KeyError, TypeError, ValueError, UserError) as error:
      raise UserError(
        f"{self.path / 'config.json'} is damaged, or of another version: {error}"
      ) from error

  def write(self, name: str, content: dict[str, Any]) -> None:
    """Writes one of the JSON files, whole or not at all; numbers that are not finite as null.

    Raises:
      UserError: the directory cannot be written.
    """
    self.write_text(name, json_files.dumps(content, indent=2) + "\n")

  def write_text(self, name: str, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; what is no valid text becomes "?".

    Raises:
      UserError: the directory cannot be written.
    """
    path = self.path / name
    temporary = path.with_name(f".{name}.tmp")
    with self.writing():
      temporary.write_text(text, encoding="utf-8", errors="replace")
      temporary.replace(path)

  def write_arrays(self, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays.npz, whole or not at all.

    Args:
      arrays: of numbers, booleans or text, by name.

    Raises:
      UserError: the directory cannot be written.
    """
    path = self.path / "arrays.npz"
    temporary = path.with_name(".arrays.npz.tmp")
    with self.writing():
      with temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
      temporary.replace(path)

  def read_arrays(self) -> dict[str, np.ndarray]:
    """Reads arrays.npz.

    Raises:
      UserError: it is missing or damaged.
    """
    path = self.path / "arrays.npz"
    try:
      content = io.BytesIO(regular_files.read(path))
      with np.load(content, allow_pickle=False) as arrays:
        return dict(arrays)
    except FileNotFoundError:
      raise UserError(
        f"'{self.path}' has no arrays.npz; run its experiment again, in another --workdir."
      ) from None
    except (
      EOFError,
      OSError,
      RuntimeError,  # zipfile's, where damage reads as encryption or as an unknown compression
      ValueError,
      zipfile.BadZipFile,
      zlib.error,
    ) as error:
      raise UserError(
        f"{path} cannot be read ({error}); put a copy of it back, or run its experiment again, in "
        f"another --workdir."
      ) from error

  def make(self, exist_ok: bool = True) -> None:
    """Makes the directory and those above it.

    Raises:
      FileExistsError: it is there already, and `exist_ok` is false.
      UserError: it cannot be made.
    """
    try:
      missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
      self.path.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
      if not exist_ok and isinstance(error, FileExistsError):
        raise
      raise self._cannot_be_written(error) from error
    self._made += missing

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Makes the directory, and keeps other processes from writing it meanwhile.

    What was made is removed at the end if it is still empty.

    Raises:
      UserError: another process writes it, or it cannot be written.
    """
    self.make()
    try:
      with contextlib.ExitStack() as stack:
        with self.writing():
          stack.enter_context(lock.held(self.path))
        yield
    finally:
      with contextlib.suppress(OSError):  # it is not empty
        for path in self._made:
          path.rmdir()

  def start(self, config: ml_collections.ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Makes the directory and saves the config, or checks it against the one that is there.

    A config that was saved before stays, until a checkpoint is known to fit the new one.

    Returns:
      The fields that differ from a config saved before, by name: its value and the new one, as JSON
      has them; None for one that is missing.

    Raises:
      UserError: a field differs that may not, see `resuming`; or there is something else in the
        directory, or it cannot be written.
    """
    if (self.path / "config.json").exists():
      changes = _changes(ml_collections.ConfigDict(self.read_config()), config)
      resuming.check(self.path, changes)
      return changes
    self.make()
    self._check_that_nothing_else_is_here()
    self.save_config(config)
    return {}

  def start_anew(self, config: ml_collections.ConfigDict) -> None:
    """As `start`, of a run that is done in one go: with the same config it may be done again.

    Raises:
      UserError: as `start`; or the directory has the result of another config.
    """
    changes = self.start(config)
    if changes and self.has_result():
      raise self.of_another_config(changes)

  def of_another_config(self, changes: Collection[str]) -> UserError:
    """The error that the directory holds a run with another config.

    Args:
      changes: names of the fields that differ, as of `start`.
    """
    return UserError(
      f"'{self.path}' holds a run with another config.{min(changes)}; choose another --workdir, or "
      f"remove that directory to do the run again."
    )

  def has_result(self) -> bool:
    """Whether the run has ended."""
    return (self.path / "summary.json").exists()

  def _check_that_nothing_else_is_here(self) -> None:
    with self.writing():
      # Hidden files are those of a start that was killed, and of file managers.
      others = sorted(path.name for path in self.path.iterdir() if not path.name.startswith("."))
    if others:
      raise UserError(
        f"'{self.path}' is not the directory of a run (it has no config.json), and not empty: it "
        f"holds '{others[0]}'{f' and {len(others) - 1} more' if others[1:] else ''}; choose "
        f"another --workdir."
      )

  def saved_steps(self) -> list[int]:
    """The steps of all checkpoints, rising, whether they can be read or not."""
    saved = os.listdir(self.checkpoints) if self.checkpoints.is_dir() else ()
    # Orbax has other names for unfinished ones.
    return sorted(int(name) for name in saved if name.isdigit())

  def newest_checkpoint(self) -> int | None:
    """The step of the newest checkpoint that was saved, whether it can be read or not."""
    return max(self.saved_steps(), default=None)

  def has_checkpoint(self) -> bool:
    """Whether a checkpoint was saved, whether it can be read or not."""
    return self.newest_checkpoint() is not None

  def remove(self, name: str) -> None:
    """Removes one of the files, if it is there.

    Raises:
      UserError: the directory cannot be written.
    """
    with self.writing():
      (self.path / name).unlink(missing_ok=True)

  def save_config(self, config: ml_collections.ConfigDict) -> None:
    """Writes config.json."""
    self.write("config.json", json.loads(config.to_json()))

  def _cannot_be_written(self, error: OSError) -> UserError:
    return UserError(f"The workdir '{self.path}' cannot be written: {error.strerror}.")

  @contextlib.contextmanager
  def writing(self) -> Iterator[None]:
    """Turns what the file system says inside into a UserError."""
    try:
      yield
    except OSError as error:
      raise self._cannot_be_written(error) from error

  def append_metrics(self, entry: dict[str, Any]) -> None:
    """Adds a line to metrics.jsonl.

    Raises:
      UserError: it cannot be written.
    """
    with self.writing(), (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
      file.write(json_files.dumps(entry) + "\n")

  def metrics(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a number that was not finite is NaN.

    Lines that are damaged, as by a crash, are left out, with one warning.

    Raises:
      UserError: it cannot be read.
    """
    path = self.path / "metrics.jsonl"
    entries, damaged = [], []
    for number, line in enumerate(self._lines(path), 1):
      try:
        entries.append(_read_metrics(line))
      except (UserError, ValueError) as error:
        damaged.append(f"line {number}: {error}")
    if damaged and not self._warned_of_metrics:
      self._warned_of_metrics = True
      which = "a damaged line" if len(damaged) == 1 else f"{len(damaged)} damaged lines"
      warn(f"{which} of {path} left out ({damaged[0]}).")
    return entries

  def _lines(self, path: pathlib.Path) -> list[bytes]:
    try:
      return regular_files.read(path).splitlines()
    except FileNotFoundError:
      return []
    except OSError as error:
      raise UserError(
        f"{path} cannot be read ({error.strerror}); put a copy of it back, or remove it."
      ) from error

  def evaluation(self, step: int) -> dict[str, Any] | None:
    """What metrics.jsonl has of the evaluation after a step."""
    for entry in self.metrics():
      if entry.pop("step") == step and entry.pop("split") == "eval":
        return entry
    return None

  def best_evaluation(self) -> dict[str, Any] | None:
    """The first of the evaluations in metrics.jsonl that has the highest top-1."""
    evaluations = [
      entry
      for entry in self.metrics()
      if entry["split"] == "eval" and not math.isnan(entry.get("top1", math.nan))
    ]
    return max(evaluations, key=lambda entry: entry["top1"], default=None)

  def forget_metrics_after(self, step: int) -> None:
    """Drops the metrics of steps that a resumed run takes again.

    Raises:
      UserError: the directory cannot be written.
    """
    kept = [entry for entry in self.metrics() if entry["step"] <= step]
    self.write_text("metrics.jsonl", "".join(json_files.dumps(entry) + "\n" for entry in kept))


def fresh(config_path: str) -> RunDirectory:
  """Makes a directory `runs/<config>-<time>` that no other process has.

  Raises:
    UserError: it cannot be made.
  """
  stem = pathlib.Path(config_path.partition(":")[0]).stem
  time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
  for attempt in itertools.count(1):
    name = f"{stem}-{time}" if attempt == 1 else f"{stem}-{time}-{attempt}"
    directory = RunDirectory(pathlib.Path("runs") / name)
    with contextlib.suppress(FileExistsError):
      directory.make(exist_ok=False)
      return directory
  raise AssertionError("there is always another number")


def _read_metrics(line: bytes) -> dict[str, Any]:
  """Of a line of metrics.jsonl; raises a UserError or a ValueError if it is damaged."""
  entry = json_files.loads(line)
  rules.check(entry, _METRICS)
  rules.check({name: entry[name] for name in entry.keys() - _METRICS.keys()}, rules.Each(_METRIC))
  return {name: math.nan if value is None else value for name, value in entry.items()}


def _changes(
  old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> dict[str, tuple[Any, Any]]:
  def values(config: ml_collections.ConfigDict) -> dict[str, Any]:
    content = json.loads(config.to_json())  # tuples become lists in both
    flat = {}
    for key in flat_keys(config):
      value = content
      for part in key.split("."):
        value = value[part]
      flat[key] = value
    return flat

  before, after = values(old), values(new)
  return {
    key: (before.get(key), after.get(key))
    for key in sorted(before.keys() | after.keys())
    if before.get(key) != after.get(key)
  }
