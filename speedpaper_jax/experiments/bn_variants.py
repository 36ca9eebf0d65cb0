"""The networks of section 4.2 of the Batch Normalization paper, compared on one data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms, targets
from speedpaper_jax.experiments.arms import Arm
from speedpaper_jax.files.rules import NAME, Rule
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of configs/bn_variants.py may be.
RULES: Mapping[str, Rule] = {**arms.RULES, "baseline": NAME}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains all arms, and finds how many steps each takes to the baseline's best accuracy.

  Args:
    config: of configs/bn_variants.py.
    directory: of the comparison.

  Returns:
    The summary: what `arms.train` says of all runs together, and what `compare` returns.

  Raises:
    UserError: see `arms.train`; or the baseline is none of the arms.
  """
  if config.baseline not in config.arms:
    raise UserError(
      f"config.baseline='{config.baseline}' is none of the arms: {', '.join(config.arms)}."
    )
  ranges.check_fields(config, RULES, "bn_variants")
  trained, totals = arms.train(config, directory)
  return {
    **totals,
    **compare(trained, config.baseline, totals["num_classes"]),
  }


def compare(trained: Mapping[str, Arm], baseline: str, num_classes: int) -> dict[str, Any]:
  """Figure 3's columns for each arm, seed by seed.

  Args:
    trained: the arms by name.
    baseline: the arm whose best accuracy is the others' target, with the same seed.
    num_classes: 1/num_classes is chance.

  Returns:
    `chance`; `targets`, the baseline's best accuracy by seed, None where it stayed at chance; and
    for each of `arms` its `rate_factor`, and by seed `best_top1`, `steps_to_target` and `speedup`,
    which is the baseline's steps divided by the arm's; None where the target was not reached or
    there is none.
  """
  chance = 1 / num_classes
  accuracies = targets.of(trained[baseline], chance)
  baseline_steps = targets.steps_to(trained[baseline], accuracies)
  rows = {}
  for name, arm in trained.items():
    steps = targets.steps_to(arm, accuracies)
    rows[name] = {
      "rate_factor": arm.rate_factor,
      "best_top1": [curve.best_top1 for curve in arm.by_seed],
      "diverged_at": [curve.diverged_at for curve in arm.by_seed],
      "steps_to_target": steps,
      "speedup": _ratios(baseline_steps, steps),
    }
  return {"chance": chance, "targets": accuracies, "arms": rows}


def _ratios(
  numerators: Sequence[float | None], denominators: Sequence[float | None]
) -> list[float | None]:
  return [
    None if above is None or below is None else above / below
    for above, below in zip(numerators, denominators, strict=True)
  ]
