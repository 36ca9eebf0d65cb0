"""Checkpoints of a run: written by Orbax in the background, verified by a digest of every leaf."""

import json
import pathlib
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from speedpaper_jax.errors import UserError, warn

PyTree = Any


class Checkpoints:
  """The checkpoints in a directory, one sub-directory a step.

  Orbax writes each under a temporary name and renames it when it is whole. It reads back arrays
  whose bits have changed on disk without complaint; the digests find those.
  """

  def __init__(self, directory: pathlib.Path, keep: int = 2, read_only: bool = False) -> None:
    """Opens a directory.

    Args:
      directory: made if it is missing, unless `read_only`.
      keep: number of newest checkpoints that stay.
      read_only: whether to leave everything as it is.
    """
    self._directory = directory.absolute()
    self._read_only = read_only
    self._options = ocp.CheckpointManagerOptions(
      max_to_keep=None if read_only else keep,
      cleanup_tmp_directories=not read_only,
      create=not read_only,
      read_only=read_only,
    )
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
      self._directory,
      options=self._options,
      item_names=("state", "record"),
    )

  def save(self, step: int, state: PyTree, record: dict[str, Any]) -> None:
    """Starts writing a checkpoint; returns as soon as `state` has been copied from the devices.

    Args:
      step: its number.
      state: a pytree of arrays, which may be donated once this returns.
      record: JSON values to keep with it.
    """
    if step in self._manager.all_steps():
      return
    record = {**record, "digests": digests(state)}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        record=ocp.args.JsonSave({**record, "digest": _record_digest(record)}),
      ),
    )

  def restore(self, template: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
    """Reads the newest whole checkpoint.

    Damaged ones that are newer are reported and, unless the directory is read-only, set aside
    under `damaged/`, so that their steps can be written again.

    Args:
      template: a pytree of arrays or `jax.ShapeDtypeStruct`, with the shardings to restore to.

    Returns:
      Step, state and record, or None where nothing has been saved.

    Raises:
      UserError: there are checkpoints, but none is whole, or the newest that is whole holds other
        arrays than `template`.
    """
    damaged = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state, record = self._read(step, template)
      except UserError:
        raise
      except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        warn(f"checkpoint {step} is damaged and left out: {reason[:300]}")
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

  def _read(self, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
    record = self._manager.restore(
      step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
    ).record
    if record.pop("digest") != _record_digest(record):
      raise ValueError("the digest of its record differs")
    expected = record.pop("digests")
    self._check_fits(step, expected, template)
    state = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
    ).state
    found = digests(state)
    changed = [name for name in found if found[name] != expected[name]]
    if changed:
      raise ValueError(f"the digest of {changed[0]} differs ({len(changed)} leaves in all)")
    return state, record

  def _check_fits(self, step: int, expected: dict[str, str], template: PyTree) -> None:
    """Tells an undamaged checkpoint of something else from a damaged one."""
    saved = {name: digest.partition(" ")[0] for name, digest in expected.items()}
    wanted = {name: _kind(leaf) for name, leaf in _named_leaves(template)}
    for name in [*wanted, *saved]:
      if saved.get(name) != wanted.get(name):
        raise UserError(
          f"Checkpoint {step} in {self._directory} is of a run with another config: its {name} is "
          f"{saved.get(name, 'absent')}, not {wanted.get(name, 'absent')}. Choose another "
          f"--workdir, or the config that is saved in this one's config.json."
        )

  def _set_aside(self, steps: list[int]) -> None:
    if not steps:
      return
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
    """Waits until everything is on disk."""
    self._manager.close()


def digests(state: PyTree) -> dict[str, str]:
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


def _kind(leaf: Any) -> str:
  return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _record_digest(record: dict[str, Any]) -> str:
  return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"
