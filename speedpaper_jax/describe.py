"""Says what a network is made of, stage by stage: `python -m speedpaper_jax.describe --model=NAME`.

`--against` sets another network beside it, and for BN-Inception and GoogLeNet shows what the
Batch Normalization paper changed, and what each change costs.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files
from speedpaper_jax.papers.networks import NETWORKS


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.describe",
    description="Prints a network's stages: their outputs, kernels, parameters, multiply-adds and "
    "activations.",
  )
  parser.add_argument("--model", metavar="NAME", help="such as bn_inception")
  parser.add_argument(
    "--dialect", metavar="NAME", help="whose implementation (default: the network's first)"
  )
  parser.add_argument(
    "--against", metavar="NAME", help="another network, in its first dialect, such as googlenet"
  )
  parser.add_argument(
    "--image_size",
    type=entry_point.at_least(1, at_most=4096),
    metavar="N",
    help="pixels (default: the paper's, 28, 224 or 299)",
  )
  parser.add_argument(
    "--num_classes",
    type=entry_point.at_least(2, at_most=2**20),
    default=1000,
    metavar="N",
    help="of the softmax layer (default: 1000)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there")
  parser.add_argument(
    "--plot", type=pathlib.Path, metavar="FILE", help="draw a figure there, such as x.png"
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Describes what the flags name."""
  if options.model is None:
    raise UserError(f"Name a network with --model: {', '.join(NETWORKS)}.")
  output_files.check_all({"--json": options.json, "--plot": options.plot})
  if options.plot is not None:
    from speedpaper_jax.files.figures import check_format

    check_format(options.plot)
  from speedpaper_jax.descriptions import as_json, changes, differences, stages, tables

  size = {"image_size": options.image_size, "num_classes": options.num_classes}
  network = stages.describe(options.model, options.dialect, **size)
  paragraphs = [tables.stages(network)]
  content: dict[str, Any] = {"network": as_json.network(network)}
  other = way = None
  if options.against is not None:
    other = stages.describe(options.against, **size)
    rows = differences.compare(other, network)
    title = f"From {other.name} to {network.name}, by the stages that both have"
    paragraphs += [tables.stages(other), tables.differences(rows, title)]
    content["against"] = as_json.network(other)
    content["differences"] = as_json.differences(rows)
    if changes.are_of(network, other):
      way = changes.count(network.image_size, network.num_classes)
      paragraphs += [tables.changes(way), tables.stems(way)]
      content["changes"] = as_json.changes(way)
      if (network.image_size, network.num_classes) == changes.PAPER:
        claims = changes.claims(way)
        paragraphs.append(tables.claims(claims, way))
        content["claims"] = as_json.claims(claims)
  print("\n\n".join([*paragraphs, tables.DEFINITIONS]))
  if options.json is not None:
    output_files.write_json(options.json, content)
  if options.plot is not None:
    from speedpaper_jax.descriptions import plot

    plot.write(options.plot, network, other, way)


if __name__ == "__main__":
  entry_point.run(main, parse)
