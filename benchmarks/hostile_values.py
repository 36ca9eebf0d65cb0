"""Damages the JSON files of a run in many ways, and looks at who notices.

  python -m benchmarks.hostile_values --count=300

Each of a run's JSON files is changed again and again: keys are removed, values replaced by others
of every kind, bytes flipped, ends cut off. Then a network is loaded from the directory as
evaluation and prediction do, a run is continued in it, and its report is written, all as far as
they go without weights. What is wrong has to be a `UserError` of one sentence; and no number of
config.json or model.json may be taken for what is none.
The exit status is 1 if anything else is raised, or if such a value is accepted.
"""

import argparse
import collections
import contextlib
import copy
import dataclasses
import io
import itertools
import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.plan import Plan
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage import sessions
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.sessions import Session

if TYPE_CHECKING:
  from speedpaper_jax.storage.run_data import RunData

FILES = (
  "config.json",
  "model.json",
  "data.json",
  "metrics.jsonl",
  "sessions.json",
  "summary.json",
  "predictions.json",
)
VALUES: tuple[Any, ...] = (
  None,
  True,
  -1,
  0,
  -0.0,
  0.5,
  10**12,
  10**400,
  1e300,
  1e-300,
  math.nan,
  math.inf,
  -math.inf,
  "",
  "x",
  "1",
  "a\0b",
  "\udcff",
  "x" * 100_000,
  [],
  [None],
  {},
  {"a": {"b": []}},
)
Path = tuple[str | int, ...]


class Mutation(NamedTuple):
  """A change of one file.

  Attributes:
    name: of the file.
    what: was done to it, in words.
    content: that it has now.
    senseless: whether a number became what is none.
  """

  name: str
  what: str
  content: bytes
  senseless: bool


def write_run(path: pathlib.Path) -> RunDirectory:
  """Writes what a run of four steps leaves, but for its weights."""
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.steps import build
  from speedpaper_jax.storage.run_data import Images

  config = train_config()
  config.duration = "4 steps"
  directory = RunDirectory(path)
  directory.start(config)
  description = model_directory.ModelDescription(
    name=config.model.name,
    dialect=config.model.dialect,
    num_classes=2,
    class_names=("nought", "one"),
    preprocessing=Preprocessing(build.build_evaluation_crop(config), DEFAULT),
    source="nothing",
  )
  directory.write("model.json", description.to_json())
  changes = [{"until_step": 2, "train": dataclasses.asdict(Images("train", 800, "c"))}]
  directory.write("data.json", {**dataclasses.asdict(data())["images"], "changes": changes})
  common: dict[str, Any] = {"batch_size": 32, "epoch_size": 900, "duration": "4 steps"}
  steps = [
    Session("first", last_step=2, saved_step=2, **common),
    Session(
      "second",
      first_step=2,
      first_examples=64,
      last_step=4,
      saved_step=4,
      changes={"optimizer.l2": [0.0, 1e-4]},
      learning_rates=[0.1, 0.2],
      **common,
    ),
  ]
  directory.write("sessions.json", {"sessions": list(map(dataclasses.asdict, steps))})
  for step in (2, 4):
    metrics = {"loss": 1 / step, "top1": step / 5, "top5": 1.0}
    directory.append_metrics({"step": step, "split": "train", **metrics, "step_seconds": 0.1})
    directory.append_metrics({"step": step, "split": "eval", **metrics, "count": 100})
  summary = {
    "experiment": "train",
    "steps": 4,
    "seconds": 1.5,
    "eval": {**metrics, "count": 100},
    "best": {"step": 4, "top1": 0.8},
    "command": "python -m speedpaper_jax.main --config=configs/bn_inception.py",
    "finished": "2026-11-21T18:19:47+00:00",
    "machine": {"cores": "2"},
    "versions": {"jax": "0.10.2"},
  }
  directory.write("summary.json", summary)
  image = {"name": "a.png", "class": 0, "probability": 0.75}
  images = [
    {**image, "predicted": 0, "class_probability": 0.75},
    {**image, "predicted": 1, "class_probability": 0.25, "shown": 0},
  ]
  directory.write("predictions.json", {"step": 4, "images": images})
  directory.write_arrays({"mistake_pixels": np.zeros((1, 8, 8, 3), np.uint8)})
  (directory.checkpoints / "4").mkdir(parents=True)
  return directory


def data() -> "RunData":
  """What the run remembers of its images."""
  from speedpaper_jax.storage.run_data import Images, RunData

  images = {"train": Images("train", 900, "a"), "eval": Images("test", 100, "b")}
  return RunData(("nought", "one"), images)


def mutations(directory: RunDirectory, name: str, seed: int) -> Iterator[Mutation]:
  """Endless changes of one of the files; a seed gives the same ones each time."""
  generator = random.Random(f"{name} {seed}")
  original = (directory.path / name).read_bytes()
  while True:
    kind = generator.choice(("replace", "replace", "replace", "remove", "flip", "cut", "double"))
    if kind in ("replace", "remove"):
      yield _of_value(generator, name, original, kind)
      continue
    place = generator.randrange(len(original))
    if kind == "flip":
      flipped = bytes([original[place] ^ (1 << generator.randrange(8))])
      content = original[:place] + flipped + original[place + 1 :]
    else:
      content = original[:place] + (original if kind == "double" else b"")
    yield Mutation(name, f"{kind} at byte {place}", content, senseless=False)


def _of_value(generator: random.Random, name: str, original: bytes, kind: str) -> Mutation:
  lines = original.splitlines() if name.endswith("l") else [original]
  number = generator.randrange(len(lines))
  content = json.loads(lines[number])
  path = generator.choice(list(paths(content)))
  *sections, key = path
  parent = content
  for section in sections:
    parent = parent[section]
  if kind == "remove":
    what, senseless = f"{path} removed", False
    del parent[key]
  else:
    value = copy.deepcopy(generator.choice(VALUES))
    what = f"{path} is {value!r:.40}"
    senseless = is_number(parent[key]) and not is_number(value)
    parent[key] = value
  lines[number] = json.dumps(content).encode()
  return Mutation(name, what, b"\n".join(lines), senseless)


def paths(content: Any, prefix: Path = ()) -> Iterator[Path]:
  """The way to every value of nested JSON, sections included."""
  items: Any = ()
  if isinstance(content, dict):
    items = content.items()
  elif isinstance(content, list):
    items = enumerate(content)
  for key, value in items:
    yield (*prefix, key)
    yield from paths(value, (*prefix, key))


def is_number(value: Any) -> bool:
  """Whether it is a finite number; True and False are none."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  return isinstance(value, int) or math.isfinite(value)


def load(directory: RunDirectory) -> None:
  """What evaluation, prediction and fine-tuning read before the weights."""
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.steps import build

  config = model_directory.load_config(directory.path)
  description = model_directory.load_description(directory.path)
  build.build_inference_model(config, description.num_classes, parallel.make_mesh())


def choose_best(directory: RunDirectory) -> None:
  """What `evaluate --step=best` reads."""
  directory.best_evaluation()


def resume(directory: RunDirectory) -> None:
  """What the same command reads when it continues a run."""
  config = train_config()
  config.duration = "4 steps"
  directory.start(config)
  Plan.of(config, Durations(config.batch_size, 1000))
  data().check(directory)
  sessions.check_checkpoints(directory)
  sessions.read(directory)
  directory.evaluation(4)
  directory.forget_metrics_after(2)


def write_report(directory: RunDirectory) -> None:
  """Writes it."""
  from speedpaper_jax import reports

  reports.write(directory)


READERS: dict[str, Callable[[RunDirectory], None]] = {
  "load": load,
  "choose the best": choose_best,
  "report": write_report,
  "resume": resume,  # the last one, since it writes
}


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
  """Figures are painted inside, but not saved, which takes longer than all else."""
  from matplotlib.figure import Figure

  def save(figure: Figure, path: pathlib.Path, **_: Any) -> None:
    path.write_bytes(bytes(24))  # as much as the page looks at

  with mock.patch.object(Figure, "savefig", save):
    yield


def outcome(mutation: Mutation, reader: str, whole: pathlib.Path, damaged: pathlib.Path) -> str:
  """What a reader makes of a damaged copy of a run.

  Args:
    mutation: the damage.
    reader: a key of `READERS`.
    whole: directory of the run.
    damaged: where to make the copy.

  Returns:
    "accepted" or "refused"; else what is wrong with that.
  """
  shutil.rmtree(damaged, ignore_errors=True)
  shutil.copytree(whole, damaged)
  (damaged / mutation.name).write_bytes(mutation.content)
  directory = RunDirectory(damaged)
  with contextlib.redirect_stderr(io.StringIO()):  # lines of metrics that are left out are reported
    try:
      READERS[reader](directory)
    except UserError as error:
      # A message that a terminal cannot show, or of many lines, is no sentence.
      return "refused" if len(str(error)) < 1000 else f"reported at length: {error!s:.80}…"
    except Exception as error:
      return f"{type(error).__name__}: {error!s:.80}"
  is_read = reader == "load" and mutation.name in ("config.json", "model.json")
  return "taken for a number" if mutation.senseless and is_read else "accepted"


def attack(
  count: int, seed: int, workplace: pathlib.Path
) -> tuple[collections.Counter[str], list[str]]:
  """Damages each file `count` times.

  Returns:
    How often each reader accepted and refused; and in words what went otherwise.
  """
  whole = write_run(workplace / "whole")
  counts: collections.Counter[str] = collections.Counter()
  wrong = []
  for name in FILES:
    for mutation in itertools.islice(mutations(whole, name, seed), count):
      for reader in READERS:
        found = outcome(mutation, reader, whole.path, workplace / "damaged")
        if found in ("accepted", "refused"):
          counts[f"{name}, {reader}: {found}"] += 1
        else:
          wrong.append(f"{name}, {mutation.what}, {reader}: {found}")
  return counts, wrong


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.hostile_values",
    description="Damages the JSON files of a run in many ways, and looks at who notices. The exit "
    "status is 1 where nobody does, or not in a sentence.",
  )
  parser.add_argument(
    "--count",
    type=entry_point.at_least(1),
    default=300,
    metavar="N",
    help="damaged files in all (default: 300)",
  )
  parser.add_argument(
    "--seed", type=int, default=0, metavar="N", help="of the damages (default: 0)"
  )
  parser.add_argument("--pictures", action="store_true", help="save the reports' figures, too")
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints how often each reader accepted and refused, and what went otherwise."""
  with (
    tempfile.TemporaryDirectory() as workplace,
    contextlib.nullcontext() if options.pictures else without_pictures(),
  ):
    counts, wrong = attack(-(-options.count // len(FILES)), options.seed, pathlib.Path(workplace))
  for line, count in sorted(counts.items()):
    print(f"{count:5d}  {line}")
  for line in wrong:
    print(f"wrong  {line}")
  if wrong:
    sys.exit(1)
  print("no traceback, and nothing taken for a number that is none")


if __name__ == "__main__":
  entry_point.run(main, parse)
