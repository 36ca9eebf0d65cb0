"""What a run's report shows, from the files in its directory; a presenter for each experiment."""

import importlib

from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.reports.page import Page
from speedpaper_jax.run_directory import RunDirectory

# Experiment → module of this package with a function `present(directory)`.
_PRESENTERS = {
  "train": "train",
  "bn_fc": "bn_fc",
  "bn_init": "bn_init",
  "mnist_bn": "mnist_bn",
  "covariate_shift": "covariate_shift",
  "bn_variants": "bn_variants",
  "bn_benefits": "bn_benefits",
}


def present(directory: RunDirectory) -> Page:
  """Draws the figures of a run that has ended, and says what its report shows.

  Raises:
    UserError: a file of the run is missing or damaged, or there is no such experiment.
  """
  experiment = str(directory.read("summary.json").get("experiment"))
  if experiment not in _PRESENTERS:
    raise UserError(
      f"'{directory.path}' holds a run of an unknown experiment, '{experiment}'."
      f"{did_you_mean(experiment, _PRESENTERS)}"
    )
  module = importlib.import_module(f"{__name__}.{_PRESENTERS[experiment]}")
  page: Page = module.present(directory)
  return page
