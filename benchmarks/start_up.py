"""How long a user waits between a command and what it says first: `python -m benchmarks.start_up`.

Each network's default config is trained up to the line of its first step, once with no compiled
program kept and then again with those that the first time has kept; and every command is asked for
its `--help`. Each time that is a process of its own, with its own caches and digits. Processor
seconds, which all threads take together, hardly depend on what else the machine does.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.compilation import cache
from speedpaper_jax.errors import UserError

_ROOT = pathlib.Path(__file__).parents[1]
NETWORKS = (
  "googlenet",
  "bn_inception",
  "inception_v3",
  "inception_v4",
  "inception_resnet_v1",
  "inception_resnet_v2",
)
FIRST_STEP = "step "  # how a line of training begins


class Took(NamedTuple):
  """What a process took.

  Attributes:
    seconds: by the clock.
    processor_seconds: of all its threads.
  """

  seconds: float
  processor_seconds: float


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.start_up",
    description="Times each network's training from the command to its first step, without and "
    "with compiled programs that are kept, and the --help of every command.",
  )
  parser.add_argument(
    "--turns",
    type=entry_point.at_least(1),
    default=3,
    metavar="N",
    help="starts of each but for those without compiled programs; their median is shown "
    "(default: 3)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a line for each network, and one for each command."""
  print("to the first step       not compiled         compiled before")
  print("                        seconds  processor   seconds  processor")
  with tempfile.TemporaryDirectory() as scratch:
    data = str(pathlib.Path(scratch) / "data")
    prepare = ["-m", "speedpaper_jax.data.prepare", "digits", f"--data_dir={data}"]
    until_line(prepare, os.environ, "digits ")  # no part of what is timed
    for name in NETWORKS:
      places = {cache.VARIABLE: str(pathlib.Path(scratch) / name), "TFDS_DATA_DIR": data}
      first, *others = first_steps(name, {**os.environ, **places}, 1 + options.turns)
      print(f"{name:22} {_in_words(first)}   {_in_words(median(others))}", flush=True)
  print("\n--help                              seconds  processor")
  for module in commands():
    turns = range(options.turns)
    took = median([until_line(["-m", module, "--help"], os.environ, "usage: ") for _ in turns])
    print(f"{module:34} {_in_words(took)}", flush=True)


def commands() -> list[str]:
  """The modules that are run with `python -m`."""
  return sorted(
    ".".join(path.relative_to(_ROOT).with_suffix("").parts)
    for package in ("speedpaper_jax", "benchmarks")
    for path in (_ROOT / package).rglob("*.py")
    if '\nif __name__ == "__main__"' in path.read_text(encoding="utf-8")
  )


def first_steps(network: str, environment: Mapping[str, str], starts: int) -> list[Took]:
  """What each of some starts took, one after the other, each in a directory of its own."""
  found = []
  for _ in range(starts):
    with tempfile.TemporaryDirectory() as workdir:
      flags = [f"--config=configs/{network}.py", f"--workdir={workdir}"]
      flags.append("--config.log_every=1 steps")
      command = ["-m", "speedpaper_jax.main", *flags]
      found.append(until_line(command, environment, FIRST_STEP))
  return found


def until_line(command: Sequence[str], environment: Mapping[str, str], beginning: str) -> Took:
  """What a process took until it printed a line; then it is killed.

  Args:
    command: arguments of Python.
    environment: variables of the process.
    beginning: of the line.

  Raises:
    UserError: it ended without such a line.
  """
  before = _processor_seconds_of_children()
  began = time.monotonic()
  with (
    tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
    subprocess.Popen(
      [sys.executable, *command],
      cwd=_ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
      encoding="utf-8",
      errors="replace",
    ) as process,
  ):
    assert process.stdout is not None
    found = any(line.startswith(beginning) for line in process.stdout)
    seconds = time.monotonic() - began
    process.kill()
    process.wait()
    if not found:
      errors.seek(0)
      reason = (errors.read().strip().splitlines() or ["without a word"])[-1]
      raise UserError(f"python {' '.join(command)} ended before its time: {reason}")
  return Took(seconds, _processor_seconds_of_children() - before)


def _processor_seconds_of_children() -> float:
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # of those that have ended
  return usage.ru_utime + usage.ru_stime


def median(times: Iterable[Took]) -> Took:
  """Of seconds and processor seconds, each by itself."""
  return Took(*map(statistics.median, zip(*times, strict=True)))


def _in_words(took: Took) -> str:
  return f"{took.seconds:8.2f}  {took.processor_seconds:9.2f}"


if __name__ == "__main__":
  entry_point.run(main, parse)
