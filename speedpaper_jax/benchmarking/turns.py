"""Sides in processes of their own, in turn, A B A B: a machine that slows down slows them all."""

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speedpaper_jax.benchmarking.work import Work
from speedpaper_jax.errors import UserError

_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


@dataclasses.dataclass(frozen=True)
class Measured:
  """One side of a work.

  Attributes:
    side: "ours", "flax" or the package whose network it is.
    rates: images a second of each turn.
    cold: seconds from the start of the process to the end of its first step, by what they went
      into, with nothing kept from before.
    cached: the same with the compiled programs of the first start, where they are kept.
    memory: bytes, at most, while it worked: of an accelerator's memory, else of the process's.
    facts: see `work.Facts`.
  """

  side: str
  rates: tuple[float, ...]
  cold: Mapping[str, float]
  cached: Mapping[str, float]
  memory: float
  facts: Mapping[str, Any]

  @property
  def rate(self) -> float:
    """Median of the turns, images a second."""
    return statistics.median(self.rates)


def measure(
  work: Work, sides: Sequence[str], *, turns: int, seconds: float
) -> tuple[Measured, ...]:
  """Measures sides at one work.

  Each is started twice, with nothing kept and with the compiled programs of the first start; those
  of the second start take turns.

  Args:
    work: what is done.
    sides: see `Measured`.
    turns: of each.
    seconds: that a turn lasts, as long as a step is not longer.

  Raises:
    UserError: a side cannot be built, ends in an error, or has other parameters than the first.
  """
  with contextlib.ExitStack() as until_end:
    directory = pathlib.Path(until_end.enter_context(tempfile.TemporaryDirectory()))
    cold = {}
    for side in sides:
      with _running(side, work, directory) as process:
        cold[side] = process.ready()["laps"]
    processes = {side: until_end.enter_context(_running(side, work, directory)) for side in sides}
    ready = {side: process.ready() for side, process in processes.items()}
    check_same(ready)
    answers: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    counts = {
      side: max(1, round(seconds / process.take(1)["seconds"]))
      for side, process in processes.items()
    }
    for _ in range(turns):
      for side, process in processes.items():
        answers[side].append(process.take(counts[side]))
  return tuple(
    Measured(
      side,
      tuple(work.batch_size * counts[side] / answer["seconds"] for answer in answers[side]),
      cold[side],
      ready[side]["laps"],
      max(answer["memory"] for answer in answers[side]),
      ready[side]["facts"],
    )
    for side in sides
  )


def find_peaks(device: str, dtype: str) -> dict[str, Any]:
  """See `peaks.find`, in a process of its own, so that this one holds no device."""
  with tempfile.TemporaryDirectory() as directory:
    program = f"worker.peaks({device!r}, {dtype!r})"
    with _Process("ours", program, device, pathlib.Path(directory)).running() as process:
      return process.ready()


@contextlib.contextmanager
def _running(side: str, work: Work, directory: pathlib.Path) -> Iterator["_Process"]:
  program = f"worker.work({side!r}, {work.to_json()!r}, {time.time()!r})"
  with _Process(side, program, work.device, directory).running() as process:
    yield process


def check_same(ready: Mapping[str, Any]) -> None:
  """Raises a UserError unless the networks are the same: their parameters have the same sizes."""
  (first, facts), *others = ((side, each["facts"]) for side, each in ready.items())
  for side, other in others:
    if other["parameter_sizes"] != facts["parameter_sizes"]:
      raise UserError(
        f"The networks of {first} and {side} are not the same: they have "
        f"{sum(facts['parameter_sizes']):,} and {sum(other['parameter_sizes']):,} parameters in "
        f"arrays of other sizes."
      )


class _Process:
  """A worker; see `worker`."""

  def __init__(self, side: str, program: str, device: str, directory: pathlib.Path) -> None:
    self._side = side
    self._errors = directory / f"{side}.errors"
    kept = directory / side
    with self._errors.open("wb") as errors:
      self._process = subprocess.Popen(
        [sys.executable, "-c", f"from speedpaper_jax.benchmarking import worker; {program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        env={
          **os.environ,
          **({"JAX_PLATFORMS": _PLATFORMS[device]} if device else {}),
          "JAX_COMPILATION_CACHE_DIR": str(kept / "xla"),
          "TORCHINDUCTOR_CACHE_DIR": str(kept / "inductor"),
          # Else JAX ends an error with a note on its traceback, and not with what was wrong.
          "JAX_TRACEBACK_FILTERING": "off",
          # Else the first process would take three quarters of a GPU's memory.
          "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        },
      )

  @contextlib.contextmanager
  def running(self) -> Iterator["_Process"]:
    """Ends it at the end."""
    try:
      yield self
    finally:
      self._process.kill()
      self._process.communicate()

  def ready(self) -> dict[str, Any]:
    """Waits for its next answer."""
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise UserError(self._how_it_ended())
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
      raise UserError(answer["error"])
    return answer

  def _how_it_ended(self) -> str:
    status = self._process.wait()
    if status < 0:
      return (
        f"The process of {self._side} was killed by signal {-status}, as systems do where memory "
        "is short; take a smaller --batch_size or --image_size."
      )
    lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "without a word")
    return f"The process of {self._side} ended with status {status}: {last:.500}"

  def take(self, count: int) -> dict[str, Any]:
    """Has it work so many times."""
    assert self._process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # `ready` says why
      print(count, file=self._process.stdin, flush=True)
    return self.ready()
