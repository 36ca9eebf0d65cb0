"""The processes of a run, one a host or one an accelerator: how they meet, agree and part.

All run the same program on the same global arrays. The main process, number 0, alone reads and
writes the run's directory and prints; the others learn from it what they need to know.
"""

import contextlib
import glob
import importlib.util
import itertools
import json
import os
import signal
import types
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from speedpaper_jax.distributed import interrupts
from speedpaper_jax.distributed.interrupts import CONTINUES, START_AGAIN, Interrupted, StopSignal
from speedpaper_jax.errors import UserError

PyTree = Any
Result = TypeVar("Result")
Plain = Any  # None, booleans, numbers, text, and lists and dicts of these, keys being text

_LARGEST_PIECE = 2**26  # bytes sent at a time, so that devices need little memory for it

_patience: float | None = None  # of the run that `initialize` has joined

_TPU_DEVICE_FILES = ("/dev/accel*", "/dev/vfio/[0-9]*")

# How JAX's runtime says that it cannot reach another process.
_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "Gloo", "NCCL", "heartbeat")


def initialize(
  coordinator_address: str | None = None,
  process_count: int | None = None,
  process_index: int | None = None,
  patience: float = 300.0,
) -> None:
  """Joins the other processes, before JAX is used for anything else.

  Without the first three arguments they come from the cluster, where there is one: the metadata of
  a TPU pod, or the environment that Slurm's `srun` gives to several tasks. Elsewhere this process
  is the only one.

  Args:
    coordinator_address: host and port on which process 0 listens.
    process_count: how many there are.
    process_index: which of them this is, from 0.
    patience: seconds after which a process that gives no sign of life is taken for lost; the
      others then end.

  Raises:
    UserError: some of the first three arguments are missing, or they make no sense; or the others
      cannot be reached.
  """
  explicit = {
    "coordinator_address": coordinator_address,
    "process_count": process_count,
    "process_index": process_index,
  }
  missing = [name for name, value in explicit.items() if value is None]
  options: dict[str, Any] = {}
  if not missing:
    _check(coordinator_address, process_count, process_index)
    options = {
      "coordinator_address": coordinator_address,
      "num_processes": process_count,
      "process_id": process_index,
      "cluster_detection_method": "deactivate",
    }
  elif len(missing) < len(explicit):
    raise UserError(
      f"--{missing[0]} is missing; give --coordinator_address, --process_count and "
      f"--process_index together, or none of them."
    )
  elif not _in_a_cluster():
    return
  if not patience >= 1:
    raise UserError(f"--patience={patience:g} is too short; give a second at least.")
  seconds = round(patience)
  try:
    jax.distributed.initialize(
      **options,
      initialization_timeout=seconds,
      heartbeat_timeout_seconds=seconds,
      shutdown_timeout_seconds=seconds,
    )
  except (RuntimeError, ValueError) as error:  # the latter where a cluster does not say enough
    raise UserError(
      f"The other processes cannot be reached ({str(error).splitlines()[0]}); start all of them, "
      f"with the same --coordinator_address."
    ) from error
  _remember(patience)


def _remember(patience: float) -> None:
  global _patience
  _patience = patience


def _check(address: Any, count: Any, index: Any) -> None:
  host, _, port = address.rpartition(":")
  if not (host and port.isdigit()):
    raise UserError(f"--coordinator_address={address} is not of the form HOST:PORT.")
  if not 0 <= index < count:
    raise UserError(
      f"--process_index={index} is not one of {count} processes; number them from 0 to {count - 1}."
    )


def _in_a_cluster() -> bool:
  """Whether `jax.distributed` can find the other processes by itself."""
  # srun's environment; one task alone is no cluster, and `salloc` and `sbatch` have no task number.
  if "SLURM_STEP_NODELIST" in os.environ:
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1
  # A host of a TPU slice; JAX asks the metadata server, or the environment, for the others.
  has_tpu = any(glob.glob(files) for files in _TPU_DEVICE_FILES)
  return has_tpu and importlib.util.find_spec("libtpu") is not None


def patience() -> float | None:
  """Seconds after which a process that stands still is given up; None for one that is alone."""
  return _patience if are_several() else None


def are_several() -> bool:
  """Whether the run has other processes than this one."""
  return jax.process_count() > 1


def is_main() -> bool:
  """Whether this is the process that reads and writes the run's directory, and prints."""
  return jax.process_index() == 0


def from_main(function: Callable[[], Plain]) -> Plain:
  """Calls `function` in the main process alone; every process gets its result, or its UserError.

  All processes have to come here. The result travels as JSON, which runs no code where it arrives:
  tuples become lists, and what JSON cannot hold is a `TypeError`; also where this process is alone.
  """
  message = ""
  if is_main():
    try:
      message = json.dumps({"result": function()})
    except UserError as error:
      if not are_several():
        raise
      message = json.dumps({"error": str(error)})
  if are_several():
    message = _bytes_from_main(message.encode() if is_main() else None).decode()
  outcome = json.loads(message)
  if "error" in outcome:
    raise UserError(outcome["error"])
  return outcome["result"]


def arrays_from_main(tree: PyTree | None, template: PyTree) -> PyTree:
  """Gives all processes the main one's arrays, bit for bit.

  Args:
    tree: NumPy arrays; looked at in the main process only.
    template: a tree of the same structure with the same shapes and dtypes, in all.

  Returns:
    NumPy arrays.
  """
  if not are_several():
    return tree
  data = None
  if is_main():
    data = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))
  received = memoryview(_bytes_from_main(data))
  leaves, offset = [], 0
  for leaf in jax.tree.leaves(template):
    size = leaf.size * leaf.dtype.itemsize
    array = np.frombuffer(received[offset : offset + size], leaf.dtype)
    leaves.append(array.reshape(leaf.shape))
    offset += size
  return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _bytes_from_main(data: bytes | None) -> bytes:
  length = int(multihost_utils.broadcast_one_to_all(np.uint32(len(data or b""))))
  piece = min(_LARGEST_PIECE, 1 << max(length - 1, 3).bit_length())
  padded = np.zeros(-(-length // piece) * piece, np.uint8)
  if data is not None:
    padded[:length] = np.frombuffer(data, np.uint8)
  # As integers, whose sum with the others' zeros is exact.
  pieces = padded.view(np.uint32).reshape(-1, piece // 4)
  received = [multihost_utils.broadcast_one_to_all(one) for one in pieces]
  return np.concatenate(received).tobytes()[:length] if received else b""


def check_same(what: str, text: str) -> None:
  """Raises a UserError unless all processes come here with the same text.

  Args:
    what: the text is, for the message.
    text: of any length; its CRC-32 is compared.
  """
  checksums = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
  different = [str(index) for index, value in enumerate(checksums) if value != checksums[0]]
  if different:
    raise UserError(
      f"Process {different[0]} was started with another {what} than process 0; start all with the "
      f"same command."
    )


def gather(text: str) -> list[str]:
  """The texts of all processes, by their numbers; all have to come here."""
  if not are_several():
    return [text]
  data = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
  lengths = multihost_utils.process_allgather(np.uint32(data.size))
  padded = np.zeros(max(int(lengths.max()), 1), np.uint8)
  padded[: data.size] = data
  rows = multihost_utils.process_allgather(padded)
  return [
    row[:length].tobytes().decode(errors="surrogateescape")
    for row, length in zip(rows, lengths, strict=True)
  ]


def check_all(mistake: str | None) -> None:
  """Raises a UserError in all processes if one of them comes here with a mistake: the first one's.

  Args:
    mistake: that this process has found, in a sentence; None if there is none.
  """
  for message in gather(mistake or ""):
    if message:
      raise UserError(message)


def in_all(function: Callable[[], Result]) -> Result:
  """Calls `function` in every process; a UserError of one of them is raised in all."""
  mistake = None
  try:
    result = function()
  except UserError as error:
    if not are_several():
      raise
    mistake = f"Process {jax.process_index()}: {error}"
  check_all(mistake)
  return result


def leave() -> None:
  """Parts from the others, who do the same; without it they would take this process for lost."""
  if jax.distributed.is_initialized():
    # Those that are lost cannot be waited for, and there is nothing to do about it.
    with contextlib.suppress(RuntimeError):
      jax.distributed.shutdown()


def has_lost_another(error: BaseException) -> bool:
  """Whether an error comes from another process that has ended or can no longer be reached."""
  if not (isinstance(error, jax.errors.JaxRuntimeError) and jax.distributed.is_initialized()):
    return False
  return any(word in str(error) for word in _LOST)


_questions = itertools.count()  # also from one run of a sweep to the next, whose steps begin anew


class StopNotice:
  """While entered, a request to stop reaches all processes, and they stop after the same step.

  JAX's runtime catches SIGTERM in whichever process gets it and notifies the others. Ctrl-C and the
  terminal's end are made to do the same.
  """

  def __enter__(self) -> "StopNotice":
    others = [number for number in interrupts.fatal_signals() if number != signal.SIGTERM]
    self._previous = {number: signal.signal(number, _send_sigterm) for number in others}
    interrupts.entered(self)
    return self

  def __exit__(self, *exception: object) -> None:
    interrupts.entered(None)
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def reader_left(self) -> None:
    """The run goes on: a launcher would start it again, without a reader."""

  def requested(self, place: str, continues: str = CONTINUES) -> Interrupted | None:
    """What to raise, once all up to `place` is saved, if all are to stop; else None.

    To be asked equally often in all processes: JAX lets all of them stop at the same question.
    """
    if multihost_utils.reached_preemption_sync_point(next(_questions)):
      return Interrupted("a notice to all processes", place, START_AGAIN, continues)
    return None


def _send_sigterm(number: int, frame: types.FrameType | None) -> None:
  os.kill(os.getpid(), signal.SIGTERM)


StopRequests = StopSignal | StopNotice


def stop_requests() -> StopRequests:
  """Requests to stop, in a process alone or in one of several."""
  return StopNotice() if are_several() else StopSignal()
