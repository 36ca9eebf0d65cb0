"""Says what images show: `python -m speedpaper_jax.predict --weights=timm/inception_v4 IMAGE…`.

Or `… predict DIR IMAGE…`, where DIR is a training run's, or of converted weights; a directory in
the place of an image stands for all images in and below it. Without images it takes the photographs
that come with the package.
"""

import argparse
import pathlib
from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point, image_flags
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.data.photographs import PHOTOGRAPHS
from speedpaper_jax.errors import UserError, inform, printable, warn
from speedpaper_jax.files import output_files


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.predict",
    description="Says what images show: prints the most probable classes of each.",
  )
  directory = parser.add_argument(
    "directory",
    type=pathlib.Path,
    metavar="DIR",
    help="directory of a training run or of converted weights, or the name of published ones; "
    "without it where --weights is given",
  )
  images = parser.add_argument(
    "images",
    type=pathlib.Path,
    nargs="*",
    metavar="IMAGE",
    help="file, or a directory for all images in and below it (default: photographs that come "
    "with the package)",
  )
  directory.required = images.required = False  # a sentence below asks for them
  parser.add_argument(
    "--weights",
    metavar="NAME",
    help="published weights, as `python -m speedpaper_jax.weights` lists them, or a file with "
    "--model; fetched and converted once",
  )
  parser.add_argument("--model", metavar="NAME", help="of the weights in a file")
  parser.add_argument(
    "--dialect", metavar="NAME", help="whose implementation they are of (default: by its tensors)"
  )
  parser.add_argument(
    "--top",
    type=entry_point.at_least(1),
    default=5,
    metavar="N",
    help="classes to name for each image (default: 5)",
  )
  image_flags.add_batch_size(parser)
  image_flags.add_image_size(parser)
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there")
  parser.add_argument(
    "--plot",
    type=pathlib.Path,
    metavar="FILE",
    help="draw the first 16 images and their classes there, one row an image, such as x.png",
  )
  options = parser.parse(arguments[1:])
  if options.weights is not None and options.directory is not None:
    options.images.insert(0, options.directory)
    options.directory = None
  if options.weights is None and options.directory is None:
    raise UserError(
      "Name a model directory and images, or published weights: "
      "python -m speedpaper_jax.predict --weights=timm/inception_v4 IMAGE…"
    )
  return options


def main(options: argparse.Namespace) -> None:
  """Prints the most probable classes of each image."""
  if options.model is None and options.dialect is not None:
    raise UserError("--dialect belongs to --model, for weights in a file.")
  if not options.images:
    inform("Note: no image is named; these photographs come with the package.")
  paths = find_images(options.images or PHOTOGRAPHS)
  output_files.check_all({"--json": options.json, "--plot": options.plot}, inputs=paths)
  if options.plot is not None:
    from speedpaper_jax.files.figures import check_format

    check_format(options.plot)
  is_file = options.weights is not None and pathlib.Path(options.weights).is_file()
  if not is_file and options.model is None:
    from speedpaper_jax.interop import network_paths

    network_paths.check([options.weights or options.directory])

  entry_point.set_up_jax()
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.inference.prediction import predict

  directory = _model_directory(options)
  mesh = parallel.make_mesh()
  model = model_directory.load(directory, mesh)
  model = model_directory.with_crop(model, image_size=options.image_size)
  predictions = predict(model, mesh, paths, batch_size=options.batch_size, top=options.top)
  answers, milliseconds = [], []
  for prediction in predictions:
    if prediction.candidates is None:
      continue
    answers.append((prediction.path, prediction.candidates))
    lines = [
      f"{rank:4}  {100 * each.probability:6.2f} %  {printable(each.name)}"
      for rank, each in enumerate(prediction.candidates, start=1)
    ]
    print(printable(prediction.path), *lines, sep="\n", flush=True)
    milliseconds.append(prediction.milliseconds)

  if answers:
    inform(
      f"{sum(milliseconds) / len(answers):.1f} ms an image, of the network alone and compiled, on "
      f"{mesh.size} × {mesh.devices.flat[0].device_kind}."
    )

  if options.json is not None:
    content = {
      str(path): [
        {"class": each.label, "name": each.name, "probability": each.probability}
        for each in candidates
      ]
      for path, candidates in answers
    }
    output_files.write_json(options.json, content)
  if options.plot is not None and answers:
    from speedpaper_jax.inference import plot

    shown = answers[: plot.MAX_IMAGES]
    if len(shown) < len(answers):
      warn(f"{options.plot} shows the first {len(shown)} of {len(answers)} images.")
    plot.write(options.plot, shown)
  if len(answers) < len(paths):
    raise UserError(f"{len(paths) - len(answers)} of {len(paths)} images are left out.")


def _model_directory(options: argparse.Namespace) -> pathlib.Path:
  from speedpaper_jax.interop import published

  path = pathlib.Path(options.weights or options.directory)
  if options.weights is not None and path.is_file():
    if options.model is None:
      raise UserError(f"Name the network that '{path}' is of, as in --model=inception_v4.")
    return published.of_file(path, options.model, options.dialect)
  if options.model is not None:
    raise UserError(
      f"--model is of weights in a file, and '{path}' is none; name one with --weights, or leave "
      "--model out."
    )
  return published.model_directory(path)


if __name__ == "__main__":
  entry_point.run(main, parse)
