"""Kills a run again and again, and compares its end with that of a run that was left alone.

  python -m benchmarks.survive_kills --kills=20

Both runs are of several processes under launch/local.py, with the config of the first command and
a checkpoint every two steps. Kills are SIGKILL of one random process, at a random moment of one of
three kinds: while the processes start, while they take steps, and while a checkpoint is written.
The exit status is 0 if state, evaluation and metrics are the same in the end, bit for bit.
"""

import argparse
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.run_directory import RunDirectory

_LAUNCHER = pathlib.Path(__file__).parents[1] / "launch" / "local.py"
_KINDS = ("starting", "stepping", "saving")
# Metrics that depend on the speed of the machine.
TIMINGS = frozenset(
  {
    "seconds",
    "step_seconds",
    "data_wait_seconds",
    "images_per_second",
    "images_per_second_per_chip",
    "mfu",
    "memory_bytes",
  }
)
_MINUTES = 10  # that nothing may take


def main(options: argparse.Namespace) -> None:
  """Prints a line for each kill, and whether the two runs end in the same state."""
  with tempfile.TemporaryDirectory() as scratch:
    alone, killed = (RunDirectory(pathlib.Path(scratch) / name) for name in ("alone", "killed"))
    began = time.monotonic()
    finish(start(options, alone.path))
    print(f"left alone: {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    kill_again_and_again(options, killed)
    print(f"killed {options.kills} times: {time.monotonic() - began:.0f} s", flush=True)
    different = differences(alone, killed)
  if different:
    raise UserError(f"The two runs differ in {', '.join(different)}.")
  print("state, evaluation and metrics are the same, bit for bit")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line; what follows `--` goes to the training."""
  position = arguments.index("--") if "--" in arguments else len(arguments)
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.survive_kills",
    description="Kills a run again and again, and compares its end with that of a run that was "
    "left alone. What follows -- goes to the training (default: "
    "--config=configs/bn_inception.py).",
  )
  for name, default, meaning in (
    ("kills", 20, "how many processes to kill"),
    ("steps", 100, "steps of each run"),
    ("processes", 2, "processes of each run"),
    ("devices", 1, "devices of each process"),
  ):
    parser.add_argument(
      f"--{name}",
      type=entry_point.at_least(1),
      default=default,
      metavar="N",
      help=f"{meaning} (default: {default})",
    )
  parser.add_argument(
    "--seed", type=int, default=0, metavar="N", help="of moments and processes (default: 0)"
  )
  parser.add_argument("--program", default="-m speedpaper_jax.main", help=argparse.SUPPRESS)
  options = parser.parse(arguments[1:position])
  options.arguments = list(arguments[position + 1 :]) or ["--config=configs/bn_inception.py"]
  return options


def start(options: argparse.Namespace, workdir: pathlib.Path) -> "subprocess.Popen[str]":
  """Starts the launcher."""
  return subprocess.Popen(
    [
      sys.executable,
      str(_LAUNCHER),
      f"--processes={options.processes}",
      f"--devices={options.devices}",
      f"--restarts={options.kills}",
      f"--program={options.program}",
      "--grace=2",
      "--",
      *options.arguments,
      f"--config.duration={options.steps} steps",
      "--config.checkpoint_every=2 steps",
      "--config.eval_every=20 steps",
      "--config.log_every=1 steps",
      f"--workdir={workdir}",
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    encoding="utf-8",
  )


def finish(launcher: "subprocess.Popen[str]") -> None:
  """Waits for the end."""
  _, errors = launcher.communicate(timeout=60 * _MINUTES)
  if launcher.returncode:
    raise UserError(f"The run ended with status {launcher.returncode}: {errors[-2000:]}")


def kill_again_and_again(options: argparse.Namespace, run: RunDirectory) -> None:
  """Kills one process after another, each in a later part of the run, until it may finish."""
  chance = random.Random(options.seed)
  launcher = start(options, run.path)
  started = Started(launcher)
  for number in range(1, options.kills + 1):
    pids = started.next()
    began = time.monotonic()
    kind = _KINDS[(number - 1) % len(_KINDS)]
    victim = chance.randrange(len(pids))
    if kind == "starting":
      time.sleep(chance.uniform(0, 8))
    else:
      reached = number * (options.steps - 4) // (options.kills + 1)
      wait_until(launcher, lambda reached=reached: newest(run) >= reached)  # type: ignore[misc]
      if kind == "stepping":
        time.sleep(chance.uniform(0, 1))
      else:
        wait_until(launcher, lambda: is_saving(run))
    saving = is_saving(run)
    os.kill(pids[victim], signal.SIGKILL)
    print(
      f"kill {number:2d}: process {victim}, {time.monotonic() - began:5.1f} s after its start, "
      f"{kind}, newest checkpoint {newest(run)}{', another half written' if saving else ''}",
      flush=True,
    )
  started.remaining_output()
  if launcher.wait(60 * _MINUTES):
    raise UserError(f"The run ended with status {launcher.returncode}: {started.printed[-2000:]}")


class Started:
  """Reads from the launcher's output which processes it has started."""

  def __init__(self, launcher: "subprocess.Popen[str]") -> None:
    self.printed = ""
    self._lines = self._read(launcher)

  def _read(self, launcher: "subprocess.Popen[str]") -> Iterator[str]:
    assert launcher.stderr is not None
    for line in launcher.stderr:
      self.printed += line
      yield line

  def next(self) -> list[int]:
    """Process numbers of the next start."""
    for line in self._lines:
      if match := re.match(r"local: started \d+ processes: (.*)", line):
        return [int(pid) for pid in match[1].split()]
    raise UserError(f"The launcher has ended: {self.printed[-2000:]}")

  def remaining_output(self) -> None:
    """Goes on reading, so that the launcher can go on printing."""
    threading.Thread(target=lambda: [*self._lines], daemon=True).start()


def wait_until(launcher: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
  """Asks again and again until `condition()` is true."""
  deadline = time.monotonic() + 60 * _MINUTES
  while not condition():
    if launcher.poll() is not None:
      raise UserError("The run ended before all kills; give it more --steps.")
    if time.monotonic() > deadline:
      raise UserError(f"The run has not gone on for {_MINUTES} minutes.")
    time.sleep(0.002)


def newest(run: RunDirectory) -> int:
  """Step of the newest whole checkpoint, or 0."""
  return max((int(name) for name in _names(run) if name.isdigit()), default=0)


def is_saving(run: RunDirectory) -> bool:
  """Whether a checkpoint is half written, under Orbax's other name."""
  return any("tmp" in name for name in _names(run))


def _names(run: RunDirectory) -> Sequence[str]:
  return os.listdir(run.checkpoints) if run.checkpoints.is_dir() else ()


def differences(one: RunDirectory, other: RunDirectory) -> list[str]:
  """What differs between two runs."""
  results = [result(run) for run in (one, other)]
  return [name for name in results[0] if results[0][name] != results[1][name]]


def result(run: RunDirectory) -> dict[str, Any]:
  """A digest of each array of the last state, the evaluation, and all metrics but times."""
  record = json.loads(
    (run.checkpoints / str(newest(run)) / "record" / "metadata").read_text(encoding="utf-8")
  )
  metrics = [
    {name: value for name, value in entry.items() if name not in TIMINGS} for entry in run.metrics()
  ]
  return {"state": record["digests"], "eval": run.read("summary.json")["eval"], "metrics": metrics}


if __name__ == "__main__":
  entry_point.run(main, parse)
