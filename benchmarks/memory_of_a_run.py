"""What a long run holds in memory, and what its process takes.

  python -m benchmarks.memory_of_a_run --steps=4000

Trains with the config's evaluations and checkpoints. What is held is what was asked for and has not
been freed; what the process takes besides is what glibc keeps of freed memory, programs and
stacks. The figures move with the arrays of a step, so that each line has the largest of its time.
"""

import argparse
import ctypes
import pathlib
import re
import tempfile
import threading
from collections.abc import Sequence
from typing import NamedTuple

from speedpaper_jax.command_line import config_flag, entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.run_directory import RunDirectory

_SECONDS = 30.0  # of a line
_INTERVAL = 0.1  # seconds between looks


class _Mallinfo2(ctypes.Structure):
  """`mallinfo2(3)`; it adds up all arenas."""

  _fields_ = [
    ("arena", ctypes.c_size_t),
    ("ordblks", ctypes.c_size_t),
    ("smblks", ctypes.c_size_t),
    ("hblks", ctypes.c_size_t),
    ("hblkhd", ctypes.c_size_t),
    ("usmblks", ctypes.c_size_t),
    ("fsmblks", ctypes.c_size_t),
    ("uordblks", ctypes.c_size_t),
    ("fordblks", ctypes.c_size_t),
    ("keepcost", ctypes.c_size_t),
  ]


class Memory(NamedTuple):
  """In bytes.

  Attributes:
    held: asked for and not freed.
    freed: that glibc keeps.
    process: anonymous memory of the process.
  """

  held: int
  freed: int
  process: int


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line; the result's `config` is the config, with what overrides its fields."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.memory_of_a_run",
    description="Trains, and prints what the run holds in memory and what its process takes. "
    "--config.KEY=VALUE overrides a field of the config, as in training.",
  )
  config_flag.add_to(parser, default="configs/bn_inception.py")
  parser.add_argument(
    "--steps",
    type=entry_point.at_least(1),
    default=4000,
    metavar="N",
    help="steps of the run (default: 4000)",
  )
  return config_flag.parse(parser, arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a line every half minute."""
  entry_point.set_up_jax()
  config = options.config
  config.duration = f"{options.steps} steps"
  look()  # where it cannot be known, that is an error before the run
  from speedpaper_jax.training import train

  ended = threading.Event()
  with tempfile.TemporaryDirectory() as scratch:
    directory = RunDirectory(pathlib.Path(scratch))
    watching = threading.Thread(target=_watch, args=(directory, ended))
    watching.start()
    try:
      train.run(config, directory)
    finally:
      ended.set()
      watching.join()


def look() -> Memory:
  """How it is now.

  Raises:
    UserError: the system is not Linux with glibc.
  """
  ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
  status = pathlib.Path("/proc/self/status")
  if ask is None or not status.exists():
    raise UserError("Only Linux with glibc 2.33 or later reports what a process holds.")
  ask.restype = _Mallinfo2
  info = ask()
  anonymous = re.search(r"RssAnon:\s+(\d+) kB", status.read_text(encoding="ascii"))
  assert anonymous is not None
  return Memory(info.uordblks + info.hblkhd, info.fordblks, int(anonymous[1]) * 1024)


def _watch(directory: RunDirectory, ended: threading.Event) -> None:
  while not ended.is_set():
    looks = [look()]
    while len(looks) < _SECONDS / _INTERVAL and not ended.wait(_INTERVAL):
      looks.append(look())
    held, freed, process = (max(values) / 1e9 for values in zip(*looks, strict=True))
    metrics = directory.metrics() if directory.path.joinpath("metrics.jsonl").exists() else []
    print(
      f"memory until step {metrics[-1]['step'] if metrics else 0}: {held:.2f} GB held, "
      f"{freed:.2f} GB freed and kept, {process:.2f} GB taken by the process",
      flush=True,
    )


if __name__ == "__main__":
  entry_point.run(main, parse)
