"""Writes the report of a run, or compares runs: `python -m speedpaper_jax.report DIR…`."""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  from speedpaper_jax.reports.page import Page
  from speedpaper_jax.storage.run_directory import RunDirectory


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  from speedpaper_jax import reports

  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.report",
    description=f"Writes the report of a run anew, into its directory as {reports.NAME}; that of "
    "a training run before its end, too. Of several runs it writes one page that compares them.",
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
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Writes the page that the flags name, and prints its result and path."""
  from speedpaper_jax import reports
  from speedpaper_jax.storage.run_directory import RunDirectory

  directories = list(map(RunDirectory, options.directories))
  if len(directories) == 1:
    if options.out is not None:
      raise UserError(
        f"--out is of several runs; the report of one is {reports.NAME} in its directory."
      )
    page, path = reports.write(directories[0]), directories[0].path / reports.NAME
  else:
    path = options.out or pathlib.Path("comparison.html")
    output_files.check(path)
    page = _compare(directories, path)
  print(f"{page.result}\n{path}")


def _compare(directories: "Sequence[RunDirectory]", path: pathlib.Path) -> "Page":
  from speedpaper_jax.reports import comparison, rendering
  from speedpaper_jax.storage.run_directory import RunDirectory

  with tempfile.TemporaryDirectory() as temporary:
    drawings = RunDirectory(pathlib.Path(temporary))
    page = comparison.present(directories, drawings)
    output_files.write(path, rendering.render(page, drawings.plots))
  return page


if __name__ == "__main__":
  entry_point.run(main, parse)
