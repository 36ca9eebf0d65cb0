"""Training's and evaluation's input beside others': `python -m benchmarks.input --images=FOLDER`.

The same JPEGs go through this package's pipeline, torchvision's transforms with a `DataLoader`,
and tf.data with TensorFlow's fused decoding and cropping. Each has a process of its own; they take
turns on one core, and count their processor time, so that a busy machine slows all alike.
torchvision needs requirements-references.txt; TensorFlow may be that of another interpreter.
"""

import argparse
import contextlib
import dataclasses
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.images import encoded_images
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files

TRANSFORMS = {
  "crop": "training, area crop",
  "distort": "the same with distortions",
  "evaluate": "evaluation",
}
OURS, BEFORE_A_DEVICE = "ours", "ours before a device"
# The package without which each is left out.
OTHERS = {"torchvision": "torchvision", "tf.data": "tensorflow"}
# What a host with accelerators is to be given, images/s.
WANTED = 3000
_ROOT = pathlib.Path(__file__).parents[1]
_JPEG = b"\xff\xd8"

BATCH_SIZE = 32


class Task(NamedTuple):
  """One of `TRANSFORMS`, to a size in pixels."""

  transform: str
  image_size: int

  def __str__(self) -> str:
    return f"{self.image_size} pixels, {TRANSFORMS[self.transform]}"


# Of each task, of each contestant, images/s of each turn.
Rates = Mapping[Task, Mapping[str, Sequence[float]]]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.input",
    description="Times decoding, cropping and distorting on one core, beside torchvision and "
    "tf.data, by turns.",
  )
  parser.add_argument(
    "--images",
    type=pathlib.Path,
    required=True,
    metavar="FOLDER",
    help="of JPEGs, or that of a data set that TFDS has prepared, as imagenet2012/5.1.0",
  )
  parser.add_argument(
    "--most",
    type=entry_point.at_least(1),
    default=1000,
    metavar="N",
    help="how many of the images are taken at most; they are kept in memory (default: 1000)",
  )
  parser.add_argument(
    "--image_sizes",
    type=entry_point.at_least(1, at_most=4096),
    nargs="+",
    default=[224, 299],
    metavar="N",
    help="pixels, height and width (default: 224 299)",
  )
  parser.add_argument(
    "--batches",
    type=entry_point.at_least(1),
    default=12,
    metavar="N",
    help=f"of {BATCH_SIZE} images, of a turn (default: 12)",
  )
  parser.add_argument(
    "--turns",
    type=entry_point.at_least(1),
    default=9,
    metavar="N",
    help="turns of each (default: 9)",
  )
  parser.add_argument(
    "--tensorflow",
    default=sys.executable,
    metavar="PYTHON",
    help="the interpreter that has TensorFlow (default: this one)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there")
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints images a second of each, the ratios, and the cores that a host needs."""
  if options.json is not None:
    output_files.check(options.json)
  tasks = [Task(transform, size) for size in options.image_sizes for transform in TRANSFORMS]
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as workers:
    count = write_jpegs(options.images, options.most, pathlib.Path(folder))
    interpreters = dict.fromkeys((OURS, BEFORE_A_DEVICE, *OTHERS), sys.executable)
    interpreters["tf.data"] = options.tensorflow
    contestants = [
      workers.enter_context(running(name, interpreter, folder))
      for name, interpreter in interpreters.items()
      if name not in OTHERS or is_there(name, interpreter)
    ]
    rates = take_turns(contestants, tasks, options.batches, options.turns)
  print(f"{count:,} JPEGs; images/s on one core, median of {options.turns} turns (lowest–highest)")
  print(table(rates))
  print(f"\nCores of a host for {WANTED:,} images/s:")
  for task, of_task in rates.items():
    needed = {name: math.ceil(WANTED / statistics.median(each)) for name, each in of_task.items()}
    listed = ", ".join(f"{cores} ({name})" for name, cores in needed.items())
    print(f"  {task}: {listed}")
  if options.json is not None:
    content = [task._asdict() | {"images_per_second": rates[task]} for task in rates]
    output_files.write_json(options.json, content)


def write_jpegs(source: pathlib.Path, most: int, folder: pathlib.Path) -> int:
  """Writes images into a folder, as they are, under numbers; returns how many.

  How many others come before the last of them is told.

  Raises:
    UserError: there are none.
  """
  written = others = 0
  for image in encoded_images(source):
    if written == most:
      break
    if image.startswith(_JPEG):
      (folder / f"{written:08}.jpg").write_bytes(image)
      written += 1
    else:
      others += 1
  if not written:
    raise UserError(f"'{source}' has no JPEG; name a folder of some.")
  if others:
    print(f"{others:,} images are no JPEGs and are left out.", flush=True)
  return written


def is_there(name: str, interpreter: str) -> bool:
  """Whether the interpreter has the package; says so where it has not."""
  package = OTHERS[name]
  program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
  try:
    found = subprocess.run([interpreter, "-c", program], check=False).returncode == 0
  except OSError as error:
    raise UserError(f"'{interpreter}' cannot be run ({error.strerror}).") from error
  if not found:
    print(f"{package} is not installed for {interpreter}, so that {name} is left out.", flush=True)
  return found


@dataclasses.dataclass(frozen=True)
class Contestant:
  """A worker that waits for what it is to do.

  Attributes:
    name: of `input_worker.CONTESTANTS`.
    process: with pipes to its standard input and output.
  """

  name: str
  process: subprocess.Popen[str]

  def takes(self, task: Task) -> bool:
    """Whether the task is another one for it than for the others."""
    return self.name != BEFORE_A_DEVICE or task.transform == "distort"

  def rate(self, task: Task, batches: int) -> float:
    """Images/s over so many batches."""
    process = self.process
    assert process.stdin is not None
    assert process.stdout is not None
    try:
      print(*task, BATCH_SIZE, batches, file=process.stdin, flush=True)
      answer = process.stdout.readline()
    except BrokenPipeError:
      answer = ""
    if not answer:
      raise UserError(f"The process of {self.name} has ended; its error stands above.")
    return float(answer)


@contextlib.contextmanager
def running(name: str, interpreter: str, folder: str) -> Iterator[Contestant]:
  """A worker, on one core with the others where the system can be told so."""
  program = (
    "import os, sys\n"
    "if hasattr(os, 'sched_setaffinity'):\n"
    "  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    "from benchmarks.input_worker import serve\n"
    "serve(*sys.argv[1:])"
  )
  quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
  process = subprocess.Popen(
    [interpreter, "-c", program, name, folder],
    cwd=_ROOT,
    env={**os.environ, **quiet},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    encoding="utf-8",
  )
  try:
    yield Contestant(name, process)
  finally:
    process.kill()
    process.communicate()


def take_turns(
  contestants: Sequence[Contestant], tasks: Sequence[Task], batches: int, turns: int
) -> Rates:
  """Each task by each contestant, one after the other, and all again."""
  rates: dict[Task, dict[str, list[float]]] = {
    task: {one.name: [] for one in contestants if one.takes(task)} for task in tasks
  }
  for _ in range(turns):
    for task in tasks:
      for one in contestants:
        if one.takes(task):
          rates[task][one.name].append(one.rate(task, batches))
  return rates


def table(rates: Rates) -> str:
  """A line for each task and contestant, with the ratio to those of other packages."""
  lines = []
  for task, of_task in rates.items():
    lines.append(f"  {task}")
    for name, each in of_task.items():
      line = f"    {name:<22}{statistics.median(each):>6.0f} ({min(each):.0f}–{max(each):.0f})"
      if name not in OTHERS:
        for other in (other for other in OTHERS if other in of_task):
          by_turns = [one / two for one, two in zip(each, of_task[other], strict=True)]
          line += f", {statistics.median(by_turns):.2f} × {other}'s"
      lines.append(line)
  return "\n".join(lines)


if __name__ == "__main__":
  entry_point.run(main, parse)
