"""The Fréchet inception distance: `python -m speedpaper_jax.fid A B`.

A and B are folders of images, files of features, or saved statistics; `fid A --out=FILE.npz` saves
some.
"""

import argparse
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from speedpaper_jax.command_line import entry_point, image_flags
from speedpaper_jax.data import paths
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  import numpy as np

  from speedpaper_jax.inference.frechet import Statistics


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.fid",
    description="Prints the Fréchet inception distance of two sets of images, or saves the "
    "statistics of one.",
  )
  parser.add_argument(
    "sets",
    type=pathlib.Path,
    nargs="+",
    metavar="SET",
    help="folder of images, or .npz with `mu` and `sigma` or with `features`",
  )
  parser.add_argument(
    "--weights",
    default="pytorch-fid/inception_v3",
    metavar="DIR|NAME",
    help="network of the features (default: pytorch-fid/inception_v3, that of published numbers)",
  )
  parser.add_argument(
    "--stage", metavar="NAME", help="of the features (default: what the softmax layer sees)"
  )
  parser.add_argument(
    "--interpolation",
    choices=("bilinear_pytorch", "bilinear_tensorflow1"),
    help="of the resize to the network's input: pytorch-fid's, or that of the first "
    "implementation, in TensorFlow 1 (default: the weights' own, which is pytorch-fid's)",
  )
  image_flags.add_batch_size(parser, default=50)
  parser.add_argument(
    "--out", type=pathlib.Path, metavar="FILE.npz", help="write the statistics of one set there"
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there")
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints the distance of two sets, or saves the statistics of one."""
  if len(options.sets) != (2 if options.out is None else 1):
    raise UserError("Name two sets of images, or one and --out: python -m speedpaper_jax.fid A B")
  output_files.check_all({"--out": options.out, "--json": options.json}, inputs=options.sets)
  found = {path: find_images([path]) for path in options.sets if paths.is_directory(path)}

  entry_point.set_up_jax()
  import numpy as np

  from speedpaper_jax.inference import frechet

  extract = _extractor(options) if found else None
  statistics = []
  for path in options.sets:
    if extract is None or path not in found:
      statistics.append(frechet.read(path))
    else:
      statistics.append(_statistics(path, found[path], extract))
  if options.out is not None:
    content = {"mu": statistics[0].mean, "sigma": statistics[0].covariance}
    output_files.write_npz(options.out, content)
    print(f"statistics of {np.size(content['mu'])} features in {options.out}")
    return
  distance = frechet.distance(*statistics)
  print(f"FID: {distance:.6f}")
  if options.json is not None:
    output_files.write_json(options.json, {"fid": distance, "sets": list(map(str, options.sets))})


def _statistics(
  path: pathlib.Path,
  images: list[pathlib.Path],
  extract: Callable[[list[pathlib.Path]], Iterator[tuple[list[pathlib.Path], "np.ndarray"]]],
) -> "Statistics":
  """Of the images in a folder; all of them, or the distance would be that of others."""
  from speedpaper_jax.inference import frechet

  batches = [values for _, values in extract(images)]
  left_out = len(images) - sum(map(len, batches))
  if left_out:
    raise UserError(
      f"{left_out} of the {len(images)} images in '{path}' cannot be used, and the distance of the "
      "others would be another one; mend or remove them."
    )
  return frechet.statistics(batches, str(path))


def _extractor(
  options: argparse.Namespace,
) -> Callable[[list[pathlib.Path]], Iterator[tuple[list[pathlib.Path], "np.ndarray"]]]:
  import functools

  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import features, model_directory
  from speedpaper_jax.interop import published

  directory = published.model_directory(options.weights)
  mesh = parallel.make_mesh()
  model = model_directory.load(directory, mesh)
  model = model_directory.with_crop(model, interpolation=options.interpolation)
  return functools.partial(
    features.extract, model, mesh, batch_size=options.batch_size, stage=options.stage
  )


if __name__ == "__main__":
  entry_point.run(main, parse)
