"""Do residual connections speed training up? Pairs of networks of about the same cost, compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms, targets
from speedpaper_jax.experiments.arms import Arm
from speedpaper_jax.files.rules import FRACTION, Rule
from speedpaper_jax.papers.residual_learning import PAIRS
from speedpaper_jax.storage import run_data
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of configs/residual_speedup.py may be.
RULES: Mapping[str, Rule] = {**arms.RULES, "margin": FRACTION}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains the networks, and finds how many epochs both of a pair take to a common error.

  Args:
    config: of configs/residual_speedup.py; its arms have the names of the networks, and both of a
      pair are there or none.
    directory: of the comparison.

  Returns:
    The summary: what `arms.train` says of all runs together, `steps_per_epoch`, and what `compare`
    returns.

  Raises:
    UserError: see `arms.train`; or a network is there without the other one of its pair.
  """
  ranges.check_fields(config, RULES, "residual_speedup")
  pairs = _pairs(config.arms)
  arms.check(config)
  _, images, _ = run_data.open_data(config.base.data)
  trained, totals = arms.train(config, directory)
  steps_per_epoch = len(images) / config.base.batch_size
  return {
    **totals,
    "steps_per_epoch": steps_per_epoch,
    **compare(trained, pairs, config.margin, steps_per_epoch, totals["num_classes"]),
  }


def compare(
  trained: Mapping[str, Arm],
  pairs: Sequence[tuple[str, str]],
  margin: float,
  steps_per_epoch: float,
  num_classes: int,
) -> dict[str, Any]:
  """How soon both networks of each pair reach an error that both reach, seed by seed.

  Args:
    trained: the networks by name.
    pairs: of them, the one without residual connections first.
    margin: added to the higher of a pair's two lowest errors, as a fraction, so that the end of a
      curve, which is flat and noisy, does not decide.
    steps_per_epoch: of all networks.
    num_classes: 1/num_classes is chance.

  Returns:
    `chance`; and for each of `arms` its `rate_factor`, and by seed `best_top1`, `final_top1`,
    `diverged_at`, `common_top1`, the accuracy to reach, None where one of the pair stayed at
    chance, and `epochs_to_common`, None where there is none.
  """
  chance = 1 / num_classes
  rows = {}
  for pair in pairs:
    best = [targets.of(trained[name], chance) for name in pair]
    common = [
      None if None in of_seed else max(min(of_seed) - margin, 0.0)
      for of_seed in zip(*best, strict=True)
    ]
    for name in pair:
      arm = trained[name]
      steps = targets.steps_to(arm, common)
      rows[name] = {
        **arm.accuracies(),
        "common_top1": common,
        "epochs_to_common": [None if step is None else step / steps_per_epoch for step in steps],
      }
  return {"chance": chance, "arms": rows}


def _pairs(networks: Sequence[str]) -> list[tuple[str, str]]:
  """The paper's pairs that are there.

  Raises:
    UserError: a network is there without the other one of its pair, or is of none.
  """
  pairs = [pair for pair in PAIRS if not {*pair}.isdisjoint(networks)]
  of_pairs = [name for pair in pairs for name in pair]
  if sorted(of_pairs) != sorted(networks):
    valid = ", ".join(" with ".join(pair) for pair in PAIRS)
    raise UserError(
      f"config.arms has {', '.join(networks)}, which are not whole pairs; choose among: {valid}."
    )
  return pairs
