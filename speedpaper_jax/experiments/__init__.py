"""Experiments by name; `config.experiment` chooses one."""

import importlib
from collections.abc import Callable
from typing import Any

import ml_collections

from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.storage.run_directory import RunDirectory

# Name → module of this package with a function `run`.
EXPERIMENTS = {
  "train": "training.train",
  "bn_fc": "experiments.bn_fc",
  "bn_init": "experiments.bn_init",
  "mnist_bn": "experiments.mnist_bn",
  "bn_variants": "experiments.bn_variants",
  "bn_benefits": "experiments.bn_benefits",
  "covariate_shift": "experiments.covariate_shift",
}

# Those that train by `train.run` alone. The others train networks so small that one device does.
ON_SEVERAL_HOSTS = ("train", "bn_variants", "bn_benefits")

Run = Callable[[ml_collections.ConfigDict, RunDirectory], dict[str, Any]]


def get(name: str) -> Run:
  """The function that runs an experiment: takes config and directory, returns the summary.

  Raises:
    UserError: there is no such experiment.
  """
  if name not in EXPERIMENTS:
    raise UserError(f"There is no experiment '{name}'.{did_you_mean(name, EXPERIMENTS)}")
  return importlib.import_module(f"speedpaper_jax.{EXPERIMENTS[name]}").run
