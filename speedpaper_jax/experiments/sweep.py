"""Many runs of the training loop: named changes of one config, each in a directory of its own.

A run that has its summary is not done again; one that was interrupted continues.
"""

import contextlib
import shutil
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from speedpaper_jax.compilation import freed_memory
from speedpaper_jax.distributed import hosts
from speedpaper_jax.steps import build
from speedpaper_jax.storage import learning_curves, run_data
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import loop, train

Summary = dict[str, Any]


def run(
  configs: Mapping[str, ml_collections.ConfigDict], directory: RunDirectory
) -> dict[str, Summary]:
  """Trains once with each config, in `runs/<name>/` of the directory.

  Args:
    configs: of the "train" experiment, by the names of their runs.
    directory: of the sweep.

  Returns:
    The summary of each run. Of a run whose loss, gradient or parameters became infinite or NaN it
    has `diverged_at`, the step at which that was found, and no `eval`.

  Raises:
    UserError: a config, the data or a checkpoint is not valid, or a run in the directory was made
      with another config or other data.
    Interrupted: by SIGINT or SIGTERM; the same call continues.
  """
  return {
    name: train_once(
      config,
      learning_curves.run_directory(directory, name),
      f"run {number} of {len(configs)}, {name}",
    )
    for number, (name, config) in enumerate(configs.items(), 1)
  }


def apply(
  base: ml_collections.ConfigDict, changes: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
  """A copy of `base` with the fields that `changes` has, in the same sections."""
  config = base.copy_and_resolve_references()
  config.update(changes)
  return config


def changes(
  base: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
  """What `apply` makes `config` of `base` from: the fields that differ."""
  different = ml_collections.ConfigDict()
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      if section := changes(base[key], value):
        different[key] = section
    elif base[key] != value:
      different[key] = value
  return different


def train_once(
  config: ml_collections.ConfigDict,
  this: RunDirectory,
  title: str,
  keep_network: bool = False,
) -> Summary:
  """Trains one network, unless its directory has its summary.

  Args:
    config: of the "train" experiment.
    this: the directory of the run.
    title: what is printed of it.
    keep_network: whether its checkpoints stay when it has ended.

  Returns:
    The summary, as `run` returns it of each.

  Raises:
    UserError: as `run`.
    Interrupted: as `run`.
  """
  with contextlib.ExitStack() as until_end:
    hosts.from_main(lambda: until_end.enter_context(this.locked()))
    return _train_in_own_directory(build.resolve(config), this, title, keep_network)


def _train_in_own_directory(
  config: ml_collections.ConfigDict, this: RunDirectory, title: str, keep_network: bool
) -> Summary:
  def summary_of_before() -> Summary | None:
    changes = this.start(config)
    if changes and (this.has_result() or this.has_checkpoint()):
      raise this.of_another_config(changes)
    return this.read("summary.json") if this.has_result() else None

  before = hosts.from_main(summary_of_before)
  if before is not None:
    if hosts.from_main(lambda: run_data.is_known(this)):
      data, _, _ = run_data.open_data(config.data)
      hosts.from_main(lambda: data.check_equal(this))
    print(f"{title}: done before", flush=True)
    return before
  print(title, flush=True)
  began = time.monotonic()
  summary: Summary = {"experiment": config.experiment}
  try:
    summary |= train.run(config, this)
  except loop.DivergenceError as diverged:
    print(diverged, flush=True)
    summary |= {"steps": diverged.step, "diverged_at": diverged.step}
  summary["seconds"] = time.monotonic() - began  # compiling counts, unlike in a single run

  def finish() -> Summary:
    this.write("summary.json", summary)
    if not keep_network:  # a hundred of them are ten gigabytes
      shutil.rmtree(this.checkpoints, ignore_errors=True)
    return summary

  summary = hosts.from_main(finish)
  jax.clear_caches()  # no other run has the same programs
  freed_memory.give_back()
  return summary
