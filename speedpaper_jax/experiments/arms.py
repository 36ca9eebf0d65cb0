"""Arms of a comparison: named changes of one config, each with the same search for its rate.

The policy, the same for every arm: it is trained at each learning rate of the search with the first
seed; the rate with the best accuracy on held-out images is the arm's, and the other seeds are
trained at that rate alone. All runs of the search stay, and are shown.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import sweep
from speedpaper_jax.files.rules import ABOVE_ZERO, NAME, SEED, Rule, several
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve, run_name
from speedpaper_jax.storage.run_directory import RunDirectory

# What the fields of `config_of` may be.
RULES: Mapping[str, Rule] = {
  "experiment": NAME,
  **{f"base.{name}": field.rule for name, field in TRAIN.items()},
  "rate_factors": several(ABOVE_ZERO, 1),
  "seeds": several(SEED, 1),
}


@dataclasses.dataclass(frozen=True)
class Arm:
  """One arm after training.

  Attributes:
    rate_factor: of the arm's learning rate, the best of the search.
    searched: the first seed's curve for each factor.
    by_seed: the curves at the best factor.
  """

  rate_factor: float
  searched: Mapping[float, LearningCurve]
  by_seed: Sequence[LearningCurve]

  def accuracies(self) -> dict[str, Any]:
    """For a summary its `rate_factor`, and by seed `best_top1`, `final_top1` and `diverged_at`."""
    return {
      "rate_factor": self.rate_factor,
      "best_top1": [curve.best_top1 for curve in self.by_seed],
      "final_top1": [curve.final_top1 for curve in self.by_seed],
      "diverged_at": [curve.diverged_at for curve in self.by_seed],
    }


def config_of(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The complete config of a comparison without arms.

  Args:
    base: a config of the "train" experiment.
  """
  config = ml_collections.ConfigDict()
  config.base = base
  config.arms = ml_collections.ConfigDict()  # name of an arm → what it changes in `base`
  config.rate_factors = (1.0,)  # the search: of each arm's own learning rate, with the first seed
  config.seeds = (0,)
  return config


def train(
  config: ml_collections.ConfigDict,
  directory: RunDirectory,
  complete: Callable[[ml_collections.ConfigDict], ml_collections.ConfigDict] = lambda run: run,
) -> tuple[dict[str, Arm], dict[str, Any]]:
  """Trains all arms of a comparison, each run in a directory of its own in `runs/`.

  Args:
    config: has `base`, `arms`, `rate_factors` and `seeds`.
    directory: of the comparison.
    complete: makes the config with which a run is trained out of that of `run_config`, where there
      is something that no config file can know.

  Returns:
    The arms by name; and of all runs together how many `runs` and `steps` there were, the `seconds`
    they took, and `num_classes`.

  Raises:
    UserError: see `sweep.run`; or there is no seed, or no rate.
  """
  check(config)
  hosts.from_main(lambda: directory.start(config))
  first, *others = config.seeds
  summaries: dict[str, sweep.Summary] = {}

  def curve(arm: str, factor: float, seed: int) -> LearningCurve:
    name = run_name(arm, factor, seed)
    read = hosts.from_main(lambda: dataclasses.asdict(learning_curves.read(directory, name)))
    return LearningCurve(**read)

  def train_runs(runs: Sequence[tuple[str, float, int]]) -> None:
    configs = {run_name(*run): complete(run_config(config, *run)) for run in runs}
    summaries.update(sweep.run(configs, directory))

  train_runs([(arm, factor, first) for arm in config.arms for factor in config.rate_factors])
  searched = {
    arm: {factor: curve(arm, factor, first) for factor in config.rate_factors}
    for arm in config.arms
  }
  chosen = {arm: best_factor(by_factor) for arm, by_factor in searched.items()}
  train_runs([(arm, chosen[arm], seed) for seed in others for arm in config.arms])
  # There may be more seeds than there were the last time.
  hosts.from_main(lambda: directory.save_config(config))
  trained = {
    arm: Arm(chosen[arm], searched[arm], [curve(arm, chosen[arm], seed) for seed in config.seeds])
    for arm in config.arms
  }
  one = learning_curves.run_directory(directory, next(iter(summaries)))
  return trained, {
    "num_classes": hosts.from_main(lambda: one.read("model.json"))["num_classes"],
    "runs": len(summaries),
    "steps": sum(summary["steps"] for summary in summaries.values()),
    "seconds": sum(summary["seconds"] for summary in summaries.values()),
  }


def check(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if there is nothing to train, or a field of any run is not valid."""
  for field in ("arms", "rate_factors", "seeds"):
    if not config[field]:
      raise UserError(f"config.{field} is empty; the comparison needs one at least.")
  for arm in config.arms:
    for factor in config.rate_factors:
      try:
        ranges.check(run_config(config, arm, factor, config.seeds[0]))
      except UserError as error:
        raise UserError(f"In the arm '{arm}', at {factor:g} times its rate: {error}") from error


def run_config(
  config: ml_collections.ConfigDict, arm: str, factor: float, seed: int
) -> ml_collections.ConfigDict:
  """Of one run."""
  run = sweep.apply(config.base, config.arms[arm])
  run.optimizer.learning_rate *= factor
  run.seed = seed
  return run


def best_factor(searched: Mapping[float, LearningCurve]) -> float:
  """The factor with the best held-out accuracy; of equal ones that with the lowest loss.

  One with which training diverged is taken only where it did with all.
  """

  def rank(factor: float) -> tuple[bool, float, float]:
    curve = searched[factor]
    lowest_loss = min(filter(math.isfinite, curve.loss), default=math.inf)
    return curve.diverged_at is None, curve.best_top1, -lowest_loss

  return max(searched, key=rank)
