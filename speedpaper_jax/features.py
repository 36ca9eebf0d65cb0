"""Saves features of images: `python -m speedpaper_jax.features DIR|NAME IMAGE… --out=FILE.npz`.

DIR is a training run's or of converted weights, NAME one of published ones; a directory in place of
an image stands for all images in and below it.
"""

import argparse
import pathlib
from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point, image_flags
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.features",
    description="Saves what a network makes of images: `features` [N, …] in float32, and `files`, "
    "the path of each row.",
  )
  parser.add_argument(
    "network",
    metavar="DIR|NAME",
    help="directory of a training run or of converted weights, or the name of published ones",
  )
  parser.add_argument(
    "images",
    type=pathlib.Path,
    nargs="+",
    metavar="IMAGE",
    help="file, or a directory for all images in and below it",
  )
  parser.add_argument(
    "--stage",
    metavar="NAME",
    help="whose maps, such as mixed_6e (default: what the softmax layer sees)",
  )
  parser.add_argument(
    "--maps", action="store_true", help="keep a stage's maps, rather than their means"
  )
  image_flags.add_image_size(parser)
  image_flags.add_batch_size(parser)
  parser.add_argument(
    "--dtype",
    choices=("float32", "bfloat16"),
    default="float32",
    help="of the network's arithmetic (default: float32)",
  )
  parser.add_argument(
    "--out", type=pathlib.Path, required=True, metavar="FILE.npz", help="file to write"
  )
  options = parser.parse(arguments[1:])
  if options.maps and options.stage is None:
    raise UserError("--maps are those of a stage; name one with --stage.")
  return options


def main(options: argparse.Namespace) -> None:
  """Writes the features of what the flags name."""
  paths = find_images(options.images)
  output_files.check_all({"--out": options.out}, inputs=paths)
  from speedpaper_jax.interop import network_paths

  network_paths.check([options.network])
  entry_point.set_up_jax()
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import feature_file, features, model_directory
  from speedpaper_jax.interop import published

  directory = published.model_directory(options.network)
  mesh = parallel.make_mesh()
  model = model_directory.load(directory, mesh)
  model = model_directory.with_crop(model, image_size=options.image_size)
  batches = features.extract(
    model,
    mesh,
    paths,
    batch_size=options.batch_size,
    stage=options.stage,
    pooled=not options.maps,
    dtype=options.dtype,
  )
  more = {"stage": options.stage or "", "weights": model.description.source}
  shape = feature_file.write(options.out, batches, more)
  print(f"{'×'.join(map(str, shape))} features in {options.out}")
  if shape[0] < len(paths):
    raise UserError(f"{len(paths) - shape[0]} of {len(paths)} images are left out.")


if __name__ == "__main__":
  entry_point.run(main, parse)
