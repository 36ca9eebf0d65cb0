"""What batch normalization makes possible or superfluous, one factor at a time."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms
from speedpaper_jax.files.rules import FINITE, Rule, one_of, several
from speedpaper_jax.reports.bn_benefits import FACTORS
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of configs/bn_benefits.py may be.
RULES: Mapping[str, Rule] = {
  **arms.RULES,
  "benefit": one_of(FACTORS),
  "factor_values": several(FINITE, 1),
}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains the network with every value of the factor, without BN and with it.

  Args:
    config: of configs/bn_benefits.py; its arms are named by `learning_curves.arm_name`.
    directory: of the comparison.

  Returns:
    The summary: what `arms.train` says of all runs together; `chance`; and for each of `arms` its
    `rate_factor`, the best of the search, and by seed `final_top1` and `best_top1` on held-out
    images, `train_top1` on the training images, None where the run diverged, and `diverged_at`, a
    step or None.

  Raises:
    UserError: see `arms.train`.
  """
  ranges.check_fields(config, RULES, "bn_benefits")
  _check_arms(config)
  trained, totals = arms.train(config, directory)
  return {
    **totals,
    "chance": 1 / totals["num_classes"],
    "arms": {
      name: {
        "rate_factor": arm.rate_factor,
        "final_top1": [curve.final_top1 for curve in arm.by_seed],
        "best_top1": [curve.best_top1 for curve in arm.by_seed],
        "train_top1": [curve.train_top1 for curve in arm.by_seed],
        "diverged_at": [curve.diverged_at for curve in arm.by_seed],
      }
      for name, arm in trained.items()
    },
  }


def _check_arms(config: ml_collections.ConfigDict) -> None:
  for value in config.factor_values:
    for network in ("without", "with"):
      name = learning_curves.arm_name(network, value)
      if name not in config.arms:
        raise UserError(
          f"config.factor_values has {value:g}, but there is no '{name}' in config.arms; change "
          "the values in the config file, which makes both."
        )
