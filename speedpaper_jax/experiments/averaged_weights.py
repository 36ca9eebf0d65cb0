"""Which statistics batch normalization should have with averaged weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from speedpaper_jax.config import ranges
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import measured_runs
from speedpaper_jax.experiments.measured_runs import MeasuredRun
from speedpaper_jax.files.rules import Rule
from speedpaper_jax.inference import model_directory
from speedpaper_jax.inference.evaluation import Evaluator
from speedpaper_jax.steps import assembly
from speedpaper_jax.storage import run_data
from speedpaper_jax.storage.run_directory import RunDirectory

# Ways to evaluate: averaged weights with the moving averages of the network that is trained, with
# the average of those, with Algorithm 2's statistics; and that network as it is.
MOVING, AVERAGED, POPULATION, RAW = "moving", "averaged", "population", "raw"
WAYS = (MOVING, AVERAGED, POPULATION, RAW)

# What the fields of configs/averaged_weights.py may be.
RULES: Mapping[str, Rule] = measured_runs.RULES


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains all arms, and evaluates their networks in each way at each checkpoint.

  Args:
    config: of configs/averaged_weights.py.
    directory: of the comparison.

  Returns:
    The summary: what `measured_runs.train` says of all runs together; and for each of the `arms`
    its `steps` at which it was evaluated, and for each way by seed its `final_top1`, 0 where the
    run diverged, and its `mean_top1` over the steps.
    arrays.npz has for each arm `ARM/step` [T], and for each way `ARM/WAY` [seeds, T], the accuracy
    on held-out images, NaN where a run that diverged has not come so far.

  Raises:
    UserError: see `measured_runs.train`; or the weights of a run are not averaged, or its network
      has no batch normalization.
  """
  ranges.check_fields(config, RULES, "averaged_weights")
  measured_runs.check(config)
  _check_averages(config)
  trained, totals = measured_runs.train(config, directory, measure)
  arms: dict[str, Any] = {}
  arrays: dict[str, np.ndarray] = {}
  for arm, runs in trained.items():
    if not any(each.measured["step"] for each in runs):
      raise UserError(
        f"All runs of the arm '{arm}' diverged before their first checkpoint; lower "
        f"config.base.optimizer.learning_rate, and name another --workdir."
      )
    arms[arm], of_arm = compare(runs)
    arrays |= {f"{arm}/{name}": array for name, array in of_arm.items()}
  hosts.from_main(lambda: directory.write_arrays(arrays))
  return {**totals, "arms": arms}


def measure(config: ml_collections.ConfigDict, run: RunDirectory) -> dict[str, Any]:
  """Evaluates the network of each checkpoint on held-out images.

  Args:
    config: of the run.
    run: its directory.

  Returns:
    `step` [T], and of each way the accuracies [T].
  """
  config, mesh = assembly.prepare(config)
  _, train, test = run_data.open_data(config.data)
  evaluators: dict[str, Evaluator] = {}
  found: dict[str, list[Any]] = {
    "step": hosts.from_main(run.saved_steps),
    **{way: [] for way in WAYS},
  }
  for step in found["step"]:
    raw = model_directory.load(run.path, mesh, step, averaged=False)
    average = model_directory.load(run.path, mesh, step).variables
    if not evaluators:
      for inference in ("moving_average", "population"):
        of_inference = config.copy_and_resolve_references()
        of_inference.batch_norm.inference = inference
        evaluators[inference] = Evaluator(
          raw.network, of_inference, mesh, raw.description.preprocessing, test, train
        )
    with_moving = {"params": average["params"], "batch_stats": raw.variables["batch_stats"]}
    for way, inference, variables in (
      (MOVING, "moving_average", with_moving),
      (AVERAGED, "moving_average", average),
      (POPULATION, "population", average),
      (RAW, "moving_average", raw.variables),
    ):
      found[way].append(evaluators[inference](variables)["top1"])
  return found


def compare(runs: Sequence[MeasuredRun]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """What is said of one arm.

  Args:
    runs: by seed.

  Returns:
    For the summary, and for arrays.npz; see `run`.
  """
  steps = max((each.measured["step"] for each in runs), key=len)
  accuracies = {way: np.full((len(runs), len(steps)), np.nan) for way in WAYS}
  for number, each in enumerate(runs):
    for way, of_way in accuracies.items():
      measured = each.measured[way]
      of_way[number, : len(measured)] = measured
  known = {way: np.nan_to_num(of_way) for way, of_way in accuracies.items()}
  return {
    "steps": steps,
    "diverged_at": [each.curve.diverged_at for each in runs],
    **{
      way: {"final_top1": of_way[:, -1].tolist(), "mean_top1": of_way.mean(1).tolist()}
      for way, of_way in known.items()
    },
  }, {"step": np.array(steps, np.int64), **accuracies}


def _check_averages(config: ml_collections.ConfigDict) -> None:
  for arm in config.arms:
    run = measured_runs.run_config(config, arm, config.seeds[0])
    if not run.average_decay:
      raise UserError(
        f"In the arm '{arm}': with config.average_decay=0 there are no averaged weights; set it, "
        "to 0.99 for example."
      )
    if not run.batch_norm.enabled:
      raise UserError(
        f"In the arm '{arm}': without batch normalization there are no statistics to choose from; "
        "set config.batch_norm.enabled to True."
      )
