"""What a network gains from weights that were trained on other images.

The source network is trained once, on one data set. Arms on another one, the target, start from its
weights or from scratch.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.data import class_names
from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms, sweep, targets
from speedpaper_jax.experiments.arms import Arm
from speedpaper_jax.files.rules import Rule
from speedpaper_jax.models import layer_names
from speedpaper_jax.steps import assembly
from speedpaper_jax.storage import run_data
from speedpaper_jax.storage.run_data import RunData
from speedpaper_jax.storage.run_directory import RunDirectory

SCRATCH = "scratch"  # the arm whose best accuracy is the target of all
SOURCE = "source"  # where the source network is, and an arm's `init_from` that stands for it

# What the fields of configs/transfer.py may be.
RULES: Mapping[str, Rule] = {
  **arms.RULES,
  **{f"source.{name}": field.rule for name, field in TRAIN.items()},
}


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains the source network, then all arms.

  Args:
    config: of configs/transfer.py. Where the `init_from` of an arm is "source", its runs have the
      directory of the source network there.
    directory: of the comparison; the source network is in `source/` of it.

  Returns:
    The summary: what `arms.train` says of the runs of all arms; of the `source` network the `data`,
    its `steps`, `seconds` and held-out `top1`, and whether the target has the `same_classes`, so
    that softmax layers are taken over, too; and what `compare` returns.

  Raises:
    UserError: see `arms.train`; or the arms make no such comparison, or the source network cannot
      be trained.
  """
  ranges.check_fields(config, RULES, "transfer")
  _check_source(config)
  arms.check(config)
  _check_first_weights(config)
  data = _open_target(config)
  hosts.from_main(lambda: directory.start(config))
  source = RunDirectory(directory.path / SOURCE)
  trained_source = sweep.train_once(config.source, source, "the source network", keep_network=True)
  if "diverged_at" in trained_source:
    raise UserError(
      f"The training of the source network diverged at step {trained_source['diverged_at']}; "
      f"remove '{source.path}', and lower config.source.optimizer.learning_rate."
    )
  path = hosts.from_main(lambda: str(source.path.resolve()))

  def from_source(run: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    if run.init_from == SOURCE:
      run.init_from = path
    return run

  trained, totals = arms.train(config, directory, from_source)
  return {
    **totals,
    "source": {
      "data": config.source.data.name,
      "steps": trained_source["steps"],
      "seconds": trained_source["seconds"],
      "top1": trained_source["eval"]["top1"],
      "same_classes": hosts.from_main(lambda: _has_classes_of(source, data)),
    },
    **compare(trained, totals["num_classes"]),
  }


def compare(trained: Mapping[str, Arm], num_classes: int) -> dict[str, Any]:
  """What each arm reaches, and how soon it is where training from scratch ends up.

  Args:
    trained: the arms by name, "scratch" among them.
    num_classes: of the target; 1/num_classes is chance.

  Returns:
    `chance`; `targets`, the best accuracy from scratch by seed, None where it stayed at chance; and
    for each of `arms` its `rate_factor`, and by seed `best_top1`, `final_top1`, `diverged_at`, and
    `steps_to_target`, None where the target was not reached or there is none.
  """
  chance = 1 / num_classes
  accuracies = targets.of(trained[SCRATCH], chance)
  return {
    "chance": chance,
    "targets": accuracies,
    "arms": {
      name: {
        **arm.accuracies(),
        "steps_to_target": targets.steps_to(arm, accuracies),
      }
      for name, arm in trained.items()
    },
  }


def _check_source(config: ml_collections.ConfigDict) -> None:
  try:
    ranges.check(config.source)
  except UserError as error:
    raise UserError(f"In the config of the source network: {error}") from error
  for field in ("name", "dialect"):
    source, base = config.source.model[field], config.base.model[field]
    if source != base:
      raise UserError(
        f"config.source.model.{field}='{source}' is another than config.base.model.{field}="
        f"'{base}', and no arm could take its weights; set both to the same."
      )


def _check_first_weights(config: ml_collections.ConfigDict) -> None:
  if SCRATCH not in config.arms:
    raise UserError(
      f"config.arms has no '{SCRATCH}', with which the others are compared: "
      f"{', '.join(config.arms)}."
    )
  for arm in config.arms:
    init_from = _first_run(config, arm).init_from
    allowed = ("",) if arm == SCRATCH else ("", SOURCE)
    if init_from not in allowed:
      raise UserError(
        f"The arm '{arm}' has init_from='{init_from}'; it may be "
        f"{' or '.join(map(repr, allowed))}, where '' is from scratch."
      )


def _open_target(config: ml_collections.ConfigDict) -> RunData:
  """Opens the images of the arms, and looks for the layers that they freeze.

  Training the source network takes minutes, after which a mistake would come late.
  """
  data, images, _ = run_data.open_data(config.base.data)
  base, mesh = assembly.prepare(config.base)
  counts = images.class_counts()
  parts = assembly.assemble(base, mesh, images.num_classes, len(images), counts)
  for arm in config.arms:
    patterns = layer_names.read_patterns(_first_run(config, arm).freeze)
    layer_names.check(patterns, parts.parameter_paths, f"The field freeze of the arm '{arm}'")
  return data


def _first_run(config: ml_collections.ConfigDict, arm: str) -> ml_collections.ConfigDict:
  return arms.run_config(config, arm, config.rate_factors[0], config.seeds[0])


def _has_classes_of(source: RunDirectory, data: RunData) -> bool:
  """Whether the network was trained on classes of the same names, in whatever order."""
  known = source.read("model.json").get("class_names") or ()
  return (
    0 < len(known) == len(data.class_names)
    and class_names.positions(data.class_names, known) is not None
  )
