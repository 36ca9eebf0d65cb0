"""What a run's report shows, from the files in its directory.

Each experiment has a module of its name here, with a function `present(directory)`.
"""

import importlib

from speedpaper_jax.config.experiments import EXPERIMENTS
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.reports.page import Page
from speedpaper_jax.storage.run_directory import RunDirectory

NAME = "report.html"  # in the directory of a run


def present(directory: RunDirectory) -> Page:
  """Draws the figures of a run, and says what its report shows.

  Raises:
    UserError: a file of the run is missing or damaged, there is no such experiment, or it has not
      ended and is no training run.
  """
  goes_on = (directory.path / "config.json").exists() and not directory.has_result()
  name_from = "config.json" if goes_on else "summary.json"
  experiment = str(directory.read(name_from).get("experiment"))
  if experiment not in EXPERIMENTS:
    raise UserError(
      f"'{directory.path}' holds a run of an unknown experiment, '{experiment}'."
      f"{did_you_mean(experiment, EXPERIMENTS)}"
    )
  if goes_on and experiment != "train":
    raise UserError(
      f"The run in '{directory.path}' has not ended; end it with the command that began it and the "
      f"same --workdir, or compare it with another run as it is."
    )
  module = importlib.import_module(f"{__name__}.{experiment}")
  page: Page = module.present(directory)
  return page


def write(directory: RunDirectory) -> Page:
  """Writes report.html into the directory of a run, whole or not at all.

  Returns:
    What the report shows.

  Raises:
    UserError: as `present`; or the directory cannot be written.
  """
  from speedpaper_jax.reports import rendering  # and with it Jinja, which experiments do without

  page = present(directory)
  record = rendering.Record.of(directory)
  directory.write_text(NAME, rendering.render(page, directory.plots, record))
  return page
