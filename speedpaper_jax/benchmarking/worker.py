"""One side of a measurement, in a process of its own: builds it, then works when it is told to.

It is told how often by a line on standard input, and answers in JSON, one line each; the end of the
input ends it. What libraries print goes to standard error.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import resource
import sys
import time
from typing import Any, TextIO

from speedpaper_jax.benchmarking.clock import Clock
from speedpaper_jax.benchmarking.work import Side, Work
from speedpaper_jax.errors import UserError

_MODULES = {"ours": "ours", "flax": "plain_flax", "keras": "keras"}  # the others are PyTorch's
_CLEAR_REFS = pathlib.Path("/proc/self/clear_refs")
_STATUS = pathlib.Path("/proc/self/status")


def work(name: str, task: str, started: float) -> None:
  """Does a side's work.

  Args:
    name: of the side, "ours", "flax" or the package whose network it is.
    task: a `Work`, as JSON.
    started: when the process was, `time.time()`.
  """
  answers = _answers()
  try:
    side, clock = _build(name, Work.from_json(task), started)
  except UserError as error:
    _answer(answers, error=str(error))
    return
  side.take(1)
  clock.lap("first step")
  _answer(answers, laps=clock.laps, facts=side.facts._asdict())
  _forget_peak()
  for line in sys.stdin:
    began = time.perf_counter()
    side.take(int(line))
    seconds = time.perf_counter() - began
    of_device = side.peak_memory()
    _answer(answers, seconds=seconds, memory=_peak() if of_device is None else of_device)


def peaks(device: str, dtype: str) -> None:
  """Answers with the peaks of JAX's first device; see `peaks.find`."""
  from speedpaper_jax.benchmarking import peaks

  answers = _answers()
  try:
    _answer(answers, **dataclasses.asdict(peaks.find(device, dtype)))
  except UserError as error:
    _answer(answers, error=str(error))


def _build(name: str, task: Work, started: float) -> tuple[Side, Clock]:
  clock = Clock(started)
  module = importlib.import_module(f"speedpaper_jax.benchmarking.{_MODULES.get(name, 'pytorch')}")
  clock.lap("imports")
  arguments = () if name in _MODULES else (name,)
  return module.build_side(task, clock, *arguments), clock


def _answers() -> TextIO:
  """Standard output, which from now on leads to standard error for all others."""
  answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
  os.dup2(2, 1)
  return answers


def _answer(answers: TextIO, **content: Any) -> None:
  print(json.dumps(content), file=answers, flush=True)


def _forget_peak() -> None:
  """What building and compiling took, where Linux lets it be forgotten."""
  if _CLEAR_REFS.exists():
    _CLEAR_REFS.write_text("5", encoding="ascii")


def _peak() -> int:
  """Bytes of memory that the process has had at most. No library tells that since a moment."""
  if _STATUS.exists():
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
      if line.startswith("VmHWM:"):
        return int(line.split()[1]) * 1024
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
