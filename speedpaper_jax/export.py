"""Exports a network: `python -m speedpaper_jax.export DIR|NAME --out=FILE`.

DIR is a training run's or of converted weights, NAME one of published ones. What is written runs
without this package: docs/export.md.
"""

import argparse
import pathlib
from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point, image_flags
from speedpaper_jax.data import paths
from speedpaper_jax.errors import UserError, inform
from speedpaper_jax.files import output_files


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.export",
    description="Writes a network as one StableHLO program, images → probabilities, that runs with "
    "JAX alone, and beside it FILE.json, which describes it.",
  )
  parser.add_argument(
    "network",
    metavar="DIR|NAME",
    help="directory of a training run or of converted weights, or the name of published ones",
  )
  parser.add_argument(
    "--out", type=pathlib.Path, required=True, metavar="FILE", help="program to write"
  )
  parser.add_argument(
    "--inputs",
    choices=("pixels", "normalized"),
    default="pixels",
    help="of the program: RGB values from 0 to 255, or float32 as the network takes them (default: "
    "pixels)",
  )
  image_flags.add_image_size(parser)
  parser.add_argument(
    "--dtype",
    choices=("float32", "bfloat16"),
    default="float32",
    help="of the network's arithmetic and kernels (default: float32)",
  )
  parser.add_argument(
    "--platforms",
    default="cpu,cuda,rocm,tpu",
    metavar="NAMES",
    help="that it is to run on, with commas between them (default: cpu,cuda,rocm,tpu)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Writes the program and its description."""
  description_path = options.out.with_name(f"{options.out.name}.json")
  output_files.check_all({"--out": options.out, "--out's description": description_path})
  for path in (options.out, description_path):
    if paths.is_file(path):
      raise UserError(f"There is something at '{path}' already; name another file.")

  import flatbuffers  # noqa: F401 - of which jax.export would say that it is missing at the end

  entry_point.set_up_jax()
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import exported, model_directory
  from speedpaper_jax.interop import published
  from speedpaper_jax.models import folding

  platforms = options.platforms.split(",")
  exported.check_platforms(platforms)
  directory = published.model_directory(options.network)
  model = model_directory.load(directory, parallel.make_mesh())
  model = model_directory.with_crop(model, image_size=options.image_size)
  program, description = exported.export(
    model, inputs=options.inputs, dtype=options.dtype, platforms=platforms
  )
  if layers := folding.per_activation_layers(model.variables):
    inform(
      f"Note: batch normalization per activation, as in '{layers[0]}', cannot be folded; the "
      "program has the network as it was trained."
    )
  output_files.write_bytes(options.out, program)
  output_files.write_json(description_path, description)
  print(
    f"{description['network']} ({description['dialect']}), {len(description['class_names'])} "
    f"classes, {len(program) / 1e6:.1f} MB for {', '.join(platforms)}\n"
    f"{_told(description['inputs'])} → {_told(description['outputs'])}\n"
    f"written to {options.out} and {description_path}"
  )


def _told(array: dict) -> str:
  return f"{array['values']}, {array['dtype']} [{', '.join(map(str, array['shape']))}]"


if __name__ == "__main__":
  entry_point.run(main, parse)
