"""Checkpoints of a run: written by Orbax in the background, verified by a digest of every leaf.

Each has up to three items: "weights", all that inference takes; "training", the other state;
and "record", what is known besides, with the digests. The state is the same on all devices, so that
the main process has all of it. It alone reads and writes; the others get from it what it has read,
over the network.
"""

import dataclasses
import errno
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from speedpaper_jax.distributed import hosts
from speedpaper_jax.distributed.parallel import from_host
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.storage import resuming

PyTree = Any
Digests = dict[str, str]  # name of a leaf → its kind and its digest, see `digests`

WEIGHTS, TRAINING = "weights", "training"
_VARIABLES = ("params", "batch_stats")
_PARTS_OF_WEIGHTS = (*_VARIABLES, "average")
_AVERAGE = "average/"
# Of version 0.1.0: one item for the whole state.
_STATE = "state"


class Checkpoints:
  """The checkpoints in a directory, one sub-directory a step.

  Orbax writes each under a temporary name and renames it when it is whole. It reads back arrays
  whose bits have changed on disk without complaint; the digests find those.
  """

  def __init__(self, directory: pathlib.Path, keep: int = 2, read_only: bool = False) -> None:
    """Opens a directory.

    Args:
      directory: made if it is missing, unless `read_only`.
      keep: number of newest checkpoints that stay, beside the one that `protect` names.
      read_only: whether to leave everything as it is.

    Raises:
      UserError: the directory cannot be made.
    """
    self._directory = directory.absolute()
    self._read_only = read_only
    self._kept = _NewestAndOne(keep)
    self._manager: ocp.CheckpointManager | None = None

    def open_manager() -> None:
      self._manager = self._open()

    hosts.from_main(open_manager)

  def _open(self) -> ocp.CheckpointManager:
    try:
      if not self._read_only:
        self._directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(
        f"{self._directory} cannot be made ({error.strerror}); name another --workdir."
      ) from error
    return ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=None if self._read_only else self._kept,
        cleanup_tmp_directories=not self._read_only,
        create=False,
        read_only=self._read_only,
        multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
      ),
      item_names=(WEIGHTS, TRAINING, "record", _STATE),
    )

  def protect(self, step: int | None) -> None:
    """Keeps the checkpoint of one step, and lets the one go that was protected before."""
    self._kept.step = step

  def save(self, step: int, state: PyTree, record: dict[str, Any]) -> None:
    """Starts writing a checkpoint; returns as soon as `state` has been copied from the devices.

    It is on disk, and older ones are gone, only once `wait` has returned or `newest` says so.

    Args:
      step: its number.
      state: a mapping or dataclass of replicated arrays, which may be donated once this returns.
        Its `params`, `batch_stats` and `average` are the weights.
      record: JSON values to keep with it.

    Raises:
      UserError: it cannot be written, or the one before could not be, or there is a later one.
    """
    if self._manager is None or step in self._manager.all_steps():
      return
    items = {name: jax.device_get(item) for name, item in _items(state).items()}
    record = {**record, "digests": {name: digests(item) for name, item in items.items()}}
    arguments = ocp.args.Composite(
      record=ocp.args.JsonSave({**record, "digest": _record_digest(record)}),
      **{name: ocp.args.StandardSave(item) for name, item in items.items()},
    )
    try:
      is_saved = self._manager.save(step, args=arguments)
    except Exception as error:  # whatever the file system or Orbax say
      raise self._not_written(error) from error
    if not is_saved:  # Orbax takes steps in their order only
      raise UserError(
        f"Checkpoint {step} was not written to {self._directory}, since there is a later one, of "
        f"step {self._manager.latest_step()}; move that elsewhere, and give the same command again."
      )

  def check(self) -> None:
    """Raises a UserError if a checkpoint could not be written; does not wait for one under way."""
    if self._manager is not None:
      try:
        self._manager.check_for_errors()
      except Exception as error:
        raise self._not_written(error) from error

  def wait(self) -> None:
    """Waits until everything is on disk.

    Raises:
      UserError: it could not be written.
    """
    if self._manager is not None:
      try:
        self._manager.wait_until_finished()
      except Exception as error:
        raise self._not_written(error) from error

  def newest(self) -> int | None:
    """The step of the newest checkpoint that is whole on disk, in the main process."""
    steps = self._directory.iterdir() if self._directory.is_dir() else ()
    return max((int(path.name) for path in steps if path.name.isdigit()), default=None)

  def _not_written(self, error: Exception) -> UserError:
    newest = self.newest()
    kept = "there is none before it" if newest is None else f"that of step {newest} is kept"
    return UserError(
      f"A checkpoint could not be written to {self._directory} ({_reason(error)}); {kept}. "
      f"Make room there, or make it writable; the same command with the same --workdir continues."
    )

  def restore(
    self, template: PyTree, step: int | None = None
  ) -> tuple[int, PyTree, dict[str, Any]] | None:
    """Reads the newest whole checkpoint, or that of a step.

    Damaged ones that are newer are reported and, unless the directory is read-only, set aside
    under `damaged/`, so that their steps can be written again.

    Args:
      template: a pytree of arrays or `jax.ShapeDtypeStruct`, with the shardings to restore to. It
        may be of another number of devices or processes than the checkpoint was written by.
      step: of the one to read; None for the newest.

    Returns:
      Step, state and record, or None where nothing has been saved.

    Raises:
      UserError: there are checkpoints, but none is whole, or not the one that was asked for, or it
        holds other arrays than `template`.
    """
    return self._restore(template, step, self._read)

  def restore_weights(
    self, template: PyTree, step: int | None = None, *, averaged: bool = True
  ) -> tuple[int, PyTree, dict[str, Any]] | None:
    """As `restore`, of what inference takes; nothing else is read.

    Args:
      template: of `params` and `batch_stats`.
      step: of the one to read; None for the newest.
      averaged: whether to take the average where there is one, rather than what it is of.
    """

    def read(step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
      return self._read_weights(step, template, averaged)

    return self._restore(template, step, read)

  def _restore(
    self, template: PyTree, step: int | None, read_one: "_Read"
  ) -> tuple[int, PyTree, dict[str, Any]] | None:
    host: PyTree = None

    def read() -> tuple[int, dict[str, Any]] | None:
      nonlocal host
      if step is None:
        found = self._read_newest(template, read_one)
      else:
        found = self._read_that(step, template, read_one)
      if found is None:
        return None
      found_step, host, record = found
      return found_step, record

    found = hosts.from_main(read)
    if found is None:
      return None
    host = hosts.arrays_from_main(host, template)
    state = jax.tree.map(lambda leaf, wanted: from_host(leaf, wanted.sharding), host, template)
    return found[0], state, found[1]

  def _read_newest(
    self, template: PyTree, read_one: "_Read"
  ) -> tuple[int, PyTree, dict[str, Any]] | None:
    assert self._manager is not None
    damaged = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state, record = read_one(step, template)
      except UserError:
        raise
      except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files.
        warn(f"checkpoint {step} is damaged and left out: {_first_line(error)}")
        damaged.append(step)
      else:
        if not self._read_only:
          self._set_aside(damaged)
        return step, state, record
    if damaged:
      raise UserError(
        f"None of the checkpoints in {self._directory} can be read ({len(damaged)} damaged). "
        f"Start again with another --workdir."
      )
    return None

  def _read_that(
    self, step: int, template: PyTree, read_one: "_Read"
  ) -> tuple[int, PyTree, dict[str, Any]]:
    assert self._manager is not None
    steps = sorted(self._manager.all_steps())
    if step not in steps:
      listed = ", ".join(map(str, steps)) or "none"
      raise UserError(f"{self._directory} has no checkpoint of step {step}; it has: {listed}.")
    try:
      return step, *read_one(step, template)
    except UserError:
      raise
    except Exception as error:
      raise UserError(
        f"Checkpoint {step} in {self._directory} is damaged ({_first_line(error)}); choose another."
      ) from error

  def _read(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
    record, expected = self._read_record(step)
    if TRAINING not in expected and _STATE not in expected:
      raise UserError(
        f"Checkpoint {step} in {self._directory} holds weights, not a run that could go on; name "
        f"its directory in config.init_from, and another --workdir."
      )
    saved, wanted = _kinds_of(expected), _kinds(template)
    sources = resuming.sources(saved, wanted)
    dropped = {name for name in saved if resuming.may_be_dropped(name)}
    self._check_fits(step, saved.keys() - dropped, saved, wanted, sources)
    leaves = self._read_items(step, expected)

    def carry_over(name: str, wanted: Any) -> np.ndarray:
      source = sources[name]
      if source is None:
        return np.zeros(wanted.shape, wanted.dtype)
      # A copy of what serves twice, since each may be donated.
      return leaves[source] if source == name else np.copy(leaves[source])

    carried = [carry_over(*named) for named in _named_leaves(template)]
    return jax.tree.unflatten(jax.tree.structure(template), carried), record

  def _read_weights(
    self, step: int, template: PyTree, averaged: bool
  ) -> tuple[PyTree, dict[str, Any]]:
    record, by_item = self._read_record(step)
    expected = {name: by_item[name] for name in (WEIGHTS, _STATE) if name in by_item}
    saved, wanted = _kinds_of(expected), _kinds(template)
    has_average = any(name.startswith(_AVERAGE) for name in saved)
    prefix = _AVERAGE if averaged and has_average else ""
    parts = tuple(f"{prefix}{part}/" for part in _VARIABLES)
    sources: dict[str, str | None] = {name: f"{prefix}{name}" for name in wanted}
    needed = {name for name in saved if name.startswith(parts)}
    self._check_fits(step, needed, saved, wanted, sources)
    leaves = self._read_items(step, expected)
    chosen = [leaves[f"{prefix}{name}"] for name, _ in _named_leaves(template)]
    return jax.tree.unflatten(jax.tree.structure(template), chosen), record

  def _read_record(self, step: int) -> tuple[dict[str, Any], dict[str, Digests]]:
    """What is kept with the state, and the digests of each item."""
    assert self._manager is not None
    record = self._manager.restore(
      step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
    ).record
    if record.pop("digest") != _record_digest(record):
      raise ValueError("the digest of its record differs")
    expected = record.pop("digests")
    has_items = all(isinstance(each, dict) for each in expected.values())
    return record, expected if has_items else {_STATE: expected}

  def _read_items(self, step: int, expected: Mapping[str, Digests]) -> dict[str, np.ndarray]:
    """The leaves of some items by name, as they were saved."""
    assert self._manager is not None
    restored = self._manager.restore(
      step, args=ocp.args.Composite(**{name: ocp.args.StandardRestore() for name in expected})
    )
    leaves: dict[str, np.ndarray] = {}
    for item, of_leaves in expected.items():
      found = digests(restored[item])
      changed = [name for name in of_leaves if found.get(name) != of_leaves[name]]
      if changed:
        raise ValueError(f"the digest of {changed[0]} differs ({len(changed)} leaves in all)")
      leaves.update(_named_leaves(restored[item]))
    return leaves

  def _check_fits(
    self,
    step: int,
    needed: Collection[str],
    saved: Mapping[str, str],
    wanted: Mapping[str, str],
    sources: Mapping[str, str | None],
  ) -> None:
    """Tells an undamaged checkpoint of something else from a damaged one.

    Args:
      step: of the checkpoint.
      needed: leaves of it that have to go somewhere.
      saved: dtypes and shapes of all its leaves.
      wanted: those of the template.
      sources: for each leaf of the template the name of the saved one, or None for zeros.
    """
    kinds = [
      (name, saved.get(source, "absent"), wanted[name])
      for name, source in sources.items()
      if source is not None
    ]
    used = set(sources.values())
    kinds += [
      (name, saved[name], "absent") for name in saved if name in needed and name not in used
    ]
    for name, found, of_template in kinds:
      if found != of_template:
        raise UserError(
          f"Checkpoint {step} in {self._directory} is of a run with another config: its {name} is "
          f"{found}, not {of_template}. Choose another --workdir, or the config that is saved in "
          f"this one's config.json."
        )

  def _set_aside(self, steps: list[int]) -> None:
    if not steps:
      return
    assert self._manager is not None
    self._manager.close()
    damaged = self._directory.parent / "damaged"
    damaged.mkdir(exist_ok=True)
    for step in steps:
      target = damaged / str(step)
      attempt = 1
      while target.exists():
        attempt += 1
        target = damaged / f"{step}-{attempt}"
      (self._directory / str(step)).rename(target)
    self._manager = self._open()

  def close(self) -> None:
    """Waits until everything is on disk, and ends the threads that write.

    Raises:
      UserError: it could not be written.
    """
    if self._manager is not None:
      self.wait()
      self._manager.close()


class _NewestAndOne(checkpoint_managers.PreservationPolicy):
  """Which checkpoints stay: the newest ones, and one that is named."""

  def __init__(self, newest: int) -> None:
    self._newest = newest
    self.step: int | None = None

  def should_preserve(
    self,
    checkpoints: Sequence[Any],
    *,
    context: checkpoint_managers.PreservationContext,
  ) -> Sequence[bool]:
    """Says it of each of `checkpoints`, which are in the order of their steps."""
    del context
    old = len(checkpoints) - self._newest
    return [
      index >= old or checkpoint.step == self.step for index, checkpoint in enumerate(checkpoints)
    ]


# Reads one checkpoint by its step and a template.
_Read = Callable[[int, PyTree], tuple[PyTree, dict[str, Any]]]


def _items(state: PyTree) -> dict[str, dict[str, PyTree]]:
  """The items of a state that have arrays, with their parts."""
  if isinstance(state, Mapping):
    parts = dict(state)
  else:
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
  items: dict[str, dict[str, PyTree]] = {WEIGHTS: {}, TRAINING: {}}
  for name, part in parts.items():
    if jax.tree.leaves(part):
      items[WEIGHTS if name in _PARTS_OF_WEIGHTS else TRAINING][name] = part
  return {name: item for name, item in items.items() if item}


def digests(state: PyTree) -> Digests:
  """Dtype, shape and CRC-32 of the bytes of each leaf, by its path in the tree.

  Returns:
    Such as `{"params/logits/bias": "float32[10] 3f09a1c2"}`.
  """
  host = jax.device_get(state)
  return {
    name: f"{_kind(leaf)} {zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data):08x}"
    for name, leaf in _named_leaves(host)
  }


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
  return [
    (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _kinds(tree: PyTree) -> dict[str, str]:
  """Dtype and shape of each leaf by name."""
  return {name: _kind(leaf) for name, leaf in _named_leaves(tree)}


def _kinds_of(expected: Mapping[str, Digests]) -> dict[str, str]:
  """The same of all leaves of some items, from their digests."""
  return {
    name: digest.partition(" ")[0]
    for of_leaves in expected.values()
    for name, digest in of_leaves.items()
  }


def _kind(leaf: Any) -> str:
  return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _record_digest(record: dict[str, Any]) -> str:
  return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"


def _reason(error: Exception) -> str:
  """The operating system's words, where TensorStore has them somewhere in a long line."""
  words = (os.strerror(number) for number in errno.errorcode)
  return next((each for each in words if each in str(error)), _first_line(error))


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return (lines[0] if lines else repr(error))[:300]
