"""What an evaluation has done so far, so that the same command continues where it was stopped.

The answers lie in the user's cache as pieces of consecutive images, in a directory that is named by
a digest of all that they depend on. It goes when the evaluation is done. Only the main process
reads and writes it.
"""

import contextlib
import hashlib
import json
import pathlib
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import speedpaper_jax
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import output_files, user_cache
from speedpaper_jax.inference.evaluation import Answers

PyTree = Any

_CACHE = "evaluations"
_SECONDS = 30.0  # of work that a killed process loses at most; what is shorter leaves no trace
_PIECE = re.compile(r"(\d{9})-(\d{9})\.npz")
_FIELDS = ("numbers", "labels", "log_probabilities")


class Unfinished:
  """The answers of one network to the images of a split, as far as they are there."""

  def __init__(self, key: Callable[[], str]) -> None:
    """Takes what computes the name of the directory, see `digest`; it is called when needed."""
    self._key = key
    self._new: list[Answers] = []
    self._saved_at = time.monotonic()
    self._first = 0
    self._can_be_kept = True

  def restore(self) -> tuple[int, list[Answers]]:
    """How many images are done, and the answers to them; in all processes."""
    pieces: list[Answers] = []
    done = hosts.from_main(lambda: self._read(pieces))
    self._first = done
    if done and hosts.are_several():
      pieces = [_from_main(pieces)]
    return done, pieces

  def add(self, answers: Answers, done: int) -> None:
    """Takes the answers to the next images, and saves them now and then.

    Args:
      answers: to the images after those of the last call.
      done: images that are passed now.
    """
    if not hosts.is_main():
      return
    self._new.append(answers)
    if time.monotonic() - self._saved_at >= _SECONDS:
      self.save(done)

  def save(self, done: int) -> None:
    """Saves what is new; where that is impossible, the evaluation goes on without."""
    if not (hosts.is_main() and self._new and self._can_be_kept):
      return
    try:
      directory = self._directory()
      directory.mkdir(parents=True, exist_ok=True)
      answers = Answers.join(self._new)
      output_files.write_npz(
        directory / f"{self._first:09d}-{done:09d}.npz",
        {name: getattr(answers, name) for name in _FIELDS},
      )
    except (OSError, RuntimeError, UserError) as error:
      self._can_be_kept = False
      warn(f"what is done of the evaluation cannot be kept, should it be interrupted: {error}")
    self._new, self._first = [], done
    self._saved_at = time.monotonic()

  def end(self, done: int) -> None:
    """All are done; they are saved if it took long, as other networks may follow."""
    if self._first or time.monotonic() - self._saved_at >= _SECONDS:
      self.save(done)

  def remove(self) -> None:
    """Forgets all, once the evaluation is done."""
    if hosts.is_main():
      with contextlib.suppress(OSError, RuntimeError):
        if _is_used():
          shutil.rmtree(self._directory(), ignore_errors=True)
          _root().rmdir()  # unless another evaluation is there

  def _directory(self) -> pathlib.Path:
    return _root() / self._key()

  def _read(self, pieces: list[Answers]) -> int:
    """Appends to `pieces`; returns the number of images."""
    done = 0
    with contextlib.suppress(OSError, RuntimeError):
      if not _is_used():
        return 0
      names = sorted(path.name for path in self._directory().iterdir())
      for match in filter(None, map(_PIECE.fullmatch, names)):
        if int(match[1]) != done:
          continue  # of another way to cut them
        path = self._directory() / match[0]
        try:
          pieces.append(_load(path))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
          warn(f"{path} is damaged; the evaluation continues before it.")
          break
        done = int(match[2])
    return done


def digest(variables: PyTree, **others: Any) -> str:
  """Names an evaluation.

  Args:
    variables: of the network, on devices or on the host.
    **others: all else that the answers depend on, as JSON has it.
  """
  found = hashlib.sha256()
  content = {"version": speedpaper_jax.__version__, **others}
  found.update(json.dumps(content, sort_keys=True).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.ascontiguousarray(leaf)
    found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
    found.update(array.data)
  return found.hexdigest()[:32]


def _root() -> pathlib.Path:
  return user_cache.path(_CACHE)


def _is_used() -> bool:
  """Whether any evaluation was interrupted, so that digests are worth their time."""
  return _root().is_dir()


def _load(path: pathlib.Path) -> Answers:
  with np.load(path, allow_pickle=False) as file:
    return Answers(*(file[name] for name in _FIELDS))


def _from_main(pieces: list[Answers]) -> Answers:
  """The main process's, in all."""
  arrays = {}
  if pieces:
    answers = Answers.join(pieces)
    arrays = {name: getattr(answers, name) for name in _FIELDS}
  shapes = hosts.from_main(
    lambda: {name: [list(array.shape), array.dtype.str] for name, array in arrays.items()}
  )
  template = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
  return Answers(**hosts.arrays_from_main(arrays or None, template))
