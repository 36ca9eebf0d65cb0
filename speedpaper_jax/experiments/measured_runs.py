"""Arms of a comparison whose networks are measured at their checkpoints, which go afterwards.

Unlike in `arms` there is no search: each arm is trained at its own rate with every seed.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from speedpaper_jax.compilation import freed_memory
from speedpaper_jax.config import ranges
from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import sweep
from speedpaper_jax.files.rules import NAME, SEED, Rule, several
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve, seed_name
from speedpaper_jax.storage.run_directory import RunDirectory

MEASUREMENTS = "measurements.json"

# What the fields of `config_of` may be.
RULES: Mapping[str, Rule] = {
  "experiment": NAME,
  **{f"base.{name}": field.rule for name, field in TRAIN.items()},
  "seeds": several(SEED, 1),
}

# Of a run that has ended: its config and directory → JSON values.
Measure = Callable[[ml_collections.ConfigDict, RunDirectory], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
  """One run after training.

  Attributes:
    curve: of its own evaluations.
    measured: what was measured of its networks.
  """

  curve: LearningCurve
  measured: Mapping[str, Any]


def config_of(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The complete config of a comparison without arms.

  Args:
    base: a config of the "train" experiment.
  """
  config = ml_collections.ConfigDict()
  config.base = base
  config.arms = ml_collections.ConfigDict()  # name of an arm → what it changes in `base`
  config.seeds = (0,)
  return config


def train(
  config: ml_collections.ConfigDict, directory: RunDirectory, measure: Measure
) -> tuple[dict[str, list[MeasuredRun]], dict[str, Any]]:
  """Trains all arms with all seeds, each run in a directory of its own in `runs/`.

  What has been measured of a run is kept in its directory, in the place of its checkpoints. A run
  that was measured before is not measured again.

  Args:
    config: has `base`, `arms` and `seeds`.
    directory: of the comparison.
    measure: of a run, whose checkpoints are there; all processes call it.

  Returns:
    The runs of each arm by seed; and of all runs together how many `runs` and `steps` there were,
    the `seconds` that they and the measurements took, and `num_classes`.

  Raises:
    UserError: see `sweep.run`; or there is no arm or no seed.
  """
  check(config)
  hosts.from_main(lambda: directory.start(config))
  runs = [(arm, seed) for seed in config.seeds for arm in config.arms]
  trained: dict[str, list[MeasuredRun]] = {arm: [] for arm in config.arms}
  totals = {"runs": len(runs), "steps": 0, "seconds": 0.0}
  for number, (arm, seed) in enumerate(runs, 1):
    name = seed_name(arm, seed)
    this = learning_curves.run_directory(directory, name)
    run = run_config(config, arm, seed)
    title = f"run {number} of {len(runs)}, {name}"
    summary = sweep.train_once(run, this, title, keep_network=True)
    measured = _measure_once(run, this, measure)
    curve = _read_curve(directory, name)
    trained[arm].append(MeasuredRun(curve, measured["measured"]))
    totals["steps"] += summary["steps"]
    totals["seconds"] += summary["seconds"] + measured["seconds"]
  # There may be more seeds than there were the last time.
  hosts.from_main(lambda: directory.save_config(config))
  return trained, {
    "num_classes": hosts.from_main(lambda: this.read("model.json"))["num_classes"],
    **totals,
  }


def _read_curve(directory: RunDirectory, name: str) -> LearningCurve:
  read = hosts.from_main(lambda: dataclasses.asdict(learning_curves.read(directory, name)))
  return LearningCurve(**read)


def _measure_once(
  config: ml_collections.ConfigDict, this: RunDirectory, measure: Measure
) -> dict[str, Any]:
  """What was measured of a run, and the seconds that it took."""
  if not hosts.from_main((this.path / MEASUREMENTS).exists):
    began = time.monotonic()
    measured = measure(config, this)
    content = {"seconds": time.monotonic() - began, "measured": measured}
    hosts.from_main(lambda: this.write(MEASUREMENTS, content))
    jax.clear_caches()
    freed_memory.give_back()
  # A kill may have come between the two.
  hosts.from_main(lambda: shutil.rmtree(this.checkpoints, ignore_errors=True))
  return hosts.from_main(lambda: this.read(MEASUREMENTS))


def check(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if there is nothing to train, or a field of any run is not valid."""
  for field in ("arms", "seeds"):
    if not config[field]:
      raise UserError(f"config.{field} is empty; the comparison needs one at least.")
  for arm in config.arms:
    try:
      ranges.check(run_config(config, arm, config.seeds[0]))
    except UserError as error:
      raise UserError(f"In the arm '{arm}': {error}") from error


def run_config(config: ml_collections.ConfigDict, arm: str, seed: int) -> ml_collections.ConfigDict:
  """Of one run."""
  run = sweep.apply(config.base, config.arms[arm])
  run.seed = seed
  return run
