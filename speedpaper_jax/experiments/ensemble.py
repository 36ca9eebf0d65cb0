"""Networks that are trained one by one, and the ensemble by the mean of their probabilities."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from speedpaper_jax.config import ranges
from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import sweep
from speedpaper_jax.files import output_files
from speedpaper_jax.files.rules import NAME, Rule
from speedpaper_jax.inference import members
from speedpaper_jax.inference.members import Ensemble, Result
from speedpaper_jax.steps import assembly
from speedpaper_jax.storage import learning_curves, run_data
from speedpaper_jax.storage.run_data import RunData
from speedpaper_jax.storage.run_directory import PROBABILITIES, RunDirectory
from speedpaper_jax.training.progress import format_evaluation

# What the fields of configs/bn_ensemble.py and configs/inception_ensemble.py may be.
RULES: Mapping[str, Rule] = {
  "experiment": NAME,
  **{f"base.{name}": field.rule for name, field in TRAIN.items()},
}

# Of a config's section `data`: all that says which images the members are evaluated on.
_IMAGES = ("name", "dir", "eval_split", "split_seed")


def config_of(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The complete config of an ensemble without members.

  Args:
    base: a config of the "train" experiment.
  """
  config = ml_collections.ConfigDict()
  config.experiment = "ensemble"
  config.base = base
  config.members = ml_collections.ConfigDict()  # name of a member → what it changes in `base`
  return config


def run(config: ml_collections.ConfigDict, directory: RunDirectory) -> dict[str, Any]:
  """Trains the members, and evaluates each of them and their ensemble on the held-out images.

  Each member has a directory of its own in `runs/`, where its network stays; what all of them say
  of the images is in probabilities.npz.

  Args:
    config: of configs/bn_ensemble.py or configs/inception_ensemble.py.
    directory: of the ensemble.

  Returns:
    The summary: `num_classes`; the `steps` and `seconds` of training of all members together; for
    each of `members` its own, its `image_size`, and its `top1`, `top5`, `loss` and `count`; these
    four of the `ensemble`; and `by_count`, as of `ensembles.by_count`.

  Raises:
    UserError: see `sweep.run`; or there are not two members, they are evaluated on other images
      than each other, or one of them diverged.
    Interrupted: by SIGINT or SIGTERM; the same call continues.
  """
  ranges.check_fields(config, RULES, "ensemble")
  if len(config.members) < 2:
    raise UserError(f"config.members has {len(config.members)}; an ensemble has two at least.")
  configs = {name: sweep.apply(config.base, changes) for name, changes in config.members.items()}
  for name, of_member in configs.items():
    _check(name, of_member, config.base)
  data, train_images, images = run_data.open_data(config.base.data)
  for name, of_member in configs.items():
    _check_network(name, of_member, data)
  hosts.from_main(lambda: directory.start(config))
  trained = {
    name: _train(name, of_member, directory, f"member {number} of {len(configs)}, {name}")
    for number, (name, of_member) in enumerate(configs.items(), 1)
  }
  hosts.from_main(lambda: directory.save_config(config))  # there may be more members than before
  found = [
    members.read(name, learning_curves.run_directory(directory, name).path) for name in configs
  ]
  ensemble = members.evaluate(found, parallel.make_mesh(), images, on_member=_show)
  print(f"ensemble: {format_evaluation(ensemble.metrics)}", flush=True)
  if hosts.is_main():
    output_files.write_npz(directory.path / PROBABILITIES, ensemble.arrays())
  return {"num_classes": train_images.num_classes, **_summary(trained, ensemble)}


def _check(name: str, config: ml_collections.ConfigDict, base: ml_collections.ConfigDict) -> None:
  try:
    ranges.check(config)
  except UserError as error:
    raise UserError(f"In the member '{name}': {error}") from error
  for field in _IMAGES:
    if config.data[field] != base.data[field]:
      raise UserError(
        f"The member '{name}' has data.{field}={config.data[field]!r}, and the base "
        f"{base.data[field]!r}; the members of an ensemble are evaluated on the same images."
      )


def _check_network(name: str, config: ml_collections.ConfigDict, data: RunData) -> None:
  """Builds a network without computing anything.

  Training the others takes minutes, after which a mistake would come late.
  """
  try:
    prepared, mesh = assembly.prepare(config)
    examples = data.images["train"].examples
    assembly.assemble(prepared, mesh, len(data.class_names), examples)
  except UserError as error:
    raise UserError(f"In the member '{name}': {error}") from error


def _train(
  name: str, config: ml_collections.ConfigDict, directory: RunDirectory, title: str
) -> sweep.Summary:
  of_member = learning_curves.run_directory(directory, name)
  summary = sweep.train_once(config, of_member, title, keep_network=True)
  if "diverged_at" in summary:
    raise UserError(
      f"The training of the member '{name}' diverged at step {summary['diverged_at']}; remove "
      f"'{of_member.path}', and lower its learning rate."
    )
  return summary


def _show(result: Result) -> None:
  print(f"{result.name}: {format_evaluation(result.metrics)}", flush=True)


def _summary(trained: Mapping[str, sweep.Summary], ensemble: Ensemble) -> dict[str, Any]:
  found = ensemble.to_json()
  return {
    "steps": sum(summary["steps"] for summary in trained.values()),
    "seconds": sum(summary["seconds"] for summary in trained.values()),
    "members": {
      result.name: {
        "steps": trained[result.name]["steps"],
        "seconds": trained[result.name]["seconds"],
        "image_size": result.preprocessing.crop.image_size,
        **result.metrics,
      }
      for result in ensemble.members
    },
    "ensemble": found["ensemble"],
    "by_count": found["by_count"],
  }
