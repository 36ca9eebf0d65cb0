"""What batch normalization and weight decay each add to the small Inception of arXiv 1611.03530."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.experiments import arms
from speedpaper_jax.experiments.arms import Arm
from speedpaper_jax.files.rules import Rule
from speedpaper_jax.storage import run_data
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of configs/small_inception.py may be.
RULES: Mapping[str, Rule] = arms.RULES


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains all arms.

  Args:
    config: of configs/small_inception.py.
    directory: of the comparison.

  Returns:
    The summary: what `arms.train` says of all runs together; `chance`; `steps_per_epoch` of the
    base, which is no whole number; and for each of `arms` what `accuracies` returns.

  Raises:
    UserError: see `arms.train`.
  """
  ranges.check_fields(config, RULES, "small_inception")
  arms.check(config)
  _, train_split, _ = run_data.open_data(config.base.data)
  trained, totals = arms.train(config, directory)
  return {
    **totals,
    "chance": 1 / totals["num_classes"],
    "steps_per_epoch": len(train_split) / config.base.batch_size,
    "arms": {name: accuracies(arm) for name, arm in trained.items()},
  }


def accuracies(arm: Arm) -> dict[str, Any]:
  """Of one arm its `rate_factor`, and by seed what its networks come to, as fractions.

  That is on held-out images `best_top1` and `final_top1`, and on the training images after the last
  step `train_top1`, None of a run that diverged; and besides `diverged_at`.
  """
  return {
    **arm.accuracies(),
    "train_top1": [curve.train_top1 for curve in arm.by_seed],
  }
