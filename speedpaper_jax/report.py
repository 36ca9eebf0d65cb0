"""Writes the report of a run, or compares runs: `python -m speedpaper_jax.report DIR…`."""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedpaper_jax import entry_point, output_files
from speedpaper_jax.errors import UserError
from speedpaper_jax.run_directory import RunDirectory

if TYPE_CHECKING:
  from speedpaper_jax.reports.page import Page

NAME = "report.html"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.report",
    description=f"Writes the report of a run anew, into its directory as {NAME}. Of several runs "
    "it writes one page that compares them.",
  )
  parser.add_argument(
    "directories", type=pathlib.Path, nargs="+", metavar="DIR", help="directory of a run"
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    metavar="FILE.html",
    help="of several runs: the page to write (default: comparison.html)",
  )
  return parser.parse_args(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Writes the page that the flags name, and prints its result and path."""
  directories = list(map(RunDirectory, options.directories))
  if len(directories) == 1:
    if options.out is not None:
      raise UserError(f"--out is of several runs; the report of one is {NAME} in its directory.")
    page, path = write(directories[0]), directories[0].path / NAME
  else:
    path = options.out or pathlib.Path("comparison.html")
    output_files.check(path)
    page = _compare(directories, path)
  print(f"{page.result}\n{path}")


def write(directory: RunDirectory) -> "Page":
  """Writes report.html into the directory of a run that has ended, whole or not at all.

  Returns:
    What the report shows.

  Raises:
    UserError: the run has not ended, a file of it is missing or damaged, or the directory cannot be
      written.
  """
  from speedpaper_jax import reports
  from speedpaper_jax.reports import rendering

  if (directory.path / "config.json").exists() and not directory.has_result():
    raise UserError(
      f"The run in '{directory.path}' has not ended; end it with the command that began it and the "
      f"same --workdir, or compare it with another run as it is."
    )
  page = reports.present(directory)
  record = rendering.Record.of(directory)
  directory.write_text(NAME, rendering.render(page, directory.plots, record))
  return page


def _compare(directories: Sequence[RunDirectory], path: pathlib.Path) -> "Page":
  from speedpaper_jax.reports import comparison, rendering

  with tempfile.TemporaryDirectory() as temporary:
    drawings = RunDirectory(pathlib.Path(temporary))
    page = comparison.present(directories, drawings)
    output_files.write(path, rendering.render(page, drawings.plots))
  return page


if __name__ == "__main__":
  entry_point.run(main, parse)
