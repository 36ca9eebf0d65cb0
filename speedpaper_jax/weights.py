"""Lists published weights, or fetches some: `python -m speedpaper_jax.weights [NAME…]`."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  from speedpaper_jax.published_weights.table import PublishedWeights

_LEGEND = """\
network: model:dialect. top-1, top-5: accuracy in percent, as published, with the crop beside it.
crop: 299/0.875 is the middle of 299 pixels once the short side has 299/0.875; whole is all of the
image, squashed. input: channels, mean and deviation of pixel values from 0 to 255."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.weights",
    description="Lists the published weights that predict, evaluate and config.init_from take by "
    "name. Those that are named here are fetched and converted now, as those commands would do it.",
  )
  parser.add_argument("names", nargs="*", metavar="NAME", help="such as timm/inception_v4")
  parser.add_argument(
    "--json", type=pathlib.Path, metavar="FILE", help="write the rows there, with their addresses"
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints the table, or the directories of what is named."""
  output_files.check_all({"--json": options.json})
  from speedpaper_jax.published_weights import table

  rows = [table.find(name) for name in options.names]  # all, before any is fetched
  if rows:
    from speedpaper_jax.interop import published

    for row in rows:
      print(f"{row.name} is in {published.of_row(row)}", flush=True)
  else:
    print(_listing(table.ROWS))
  if options.json is not None:
    output_files.write_json(options.json, [row.to_json() for row in rows or table.ROWS])


def _listing(rows: Sequence["PublishedWeights"]) -> str:
  header = ("name", "network", "classes", "top-1", "top-5", "crop", "input", "licence", "checksum")
  cells = [header, *map(_cells, rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in cells
  ]
  notes = [f"{row.name}: {row.note}." for row in rows if row.note]
  return "\n".join([*lines, "", _LEGEND, "", *notes])


def _cells(row: "PublishedWeights") -> tuple[str, ...]:
  crop, normalization = row.preprocessing.crop, row.preprocessing.normalization
  part = f"/{crop.central_fraction:g}" if crop.resize == "short_side" else " whole"
  mean, std = (
    "/".join(dict.fromkeys(f"{value:.4g}" for value in values))
    for values in (normalization.mean, normalization.std)
  )
  return (
    row.name,
    f"{row.model}:{row.dialect}",
    str(row.num_classes),
    row.top1,
    row.top5,
    f"{crop.image_size}{part} {crop.interpolation}",
    f"{normalization.channels} {mean} {std}",
    row.licence,
    f"{row.checksum.algorithm} {row.checksum.digest[:9]}" if row.checksum else "–",
  )


if __name__ == "__main__":
  entry_point.run(main, parse)
