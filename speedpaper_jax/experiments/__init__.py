"""The experiments of the papers."""

import importlib
from collections.abc import Callable
from typing import Any

import ml_collections

from speedpaper_jax.config.experiments import EXPERIMENTS
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.storage.run_directory import RunDirectory

Run = Callable[[ml_collections.ConfigDict, RunDirectory], dict[str, Any]]


def get(name: str) -> Run:
  """The function that runs an experiment: takes config and directory, returns the summary.

  Raises:
    UserError: there is no such experiment.
  """
  if name not in EXPERIMENTS:
    raise UserError(f"There is no experiment '{name}'.{did_you_mean(name, EXPERIMENTS)}")
  return importlib.import_module(f"speedpaper_jax.{EXPERIMENTS[name].module}").run
