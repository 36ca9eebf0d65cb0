"""Says what images show: `python -m speedpaper_jax.predict DIR IMAGE…`.

DIR is a training run's or one of converted weights; a directory in the place of an image stands for
all images in and below it.
"""

import argparse
import pathlib
from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError, printable, warn
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
    help="directory of a training run, or of converted weights",
  )
  images = parser.add_argument(
    "images",
    type=pathlib.Path,
    nargs="+",
    metavar="IMAGE",
    help="file, or a directory for all images in and below it",
  )
  directory.required = images.required = False  # a sentence below asks for them
  parser.add_argument(
    "--top",
    type=entry_point.at_least(1),
    default=5,
    metavar="N",
    help="classes to name for each image (default: 5)",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    default=32,
    metavar="N",
    help="images at a time (default: 32)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there")
  parser.add_argument(
    "--plot",
    type=pathlib.Path,
    metavar="FILE",
    help="draw the first 16 images and their classes there, one row an image, such as x.png",
  )
  options = parser.parse(arguments[1:])
  if not options.images:
    raise UserError(
      "Name a model directory and images: python -m speedpaper_jax.predict DIR IMAGE…"
    )
  return options


def main(options: argparse.Namespace) -> None:
  """Prints the most probable classes of each image."""
  paths = find_images(options.images)
  output_files.check_all({"--json": options.json, "--plot": options.plot}, inputs=paths)

  entry_point.set_up_jax()
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import model_directory, prediction

  if options.plot is not None:
    from speedpaper_jax.files.figures import check_format

    check_format(options.plot)
  mesh = parallel.make_mesh()
  model = model_directory.load(options.directory, mesh)
  predictions = prediction.predict(
    model, mesh, paths, batch_size=options.batch_size, top=options.top
  )
  answers = []
  for path, candidates in predictions:
    if candidates is None:
      continue
    answers.append((path, candidates))
    lines = [
      f"{rank:4}  {100 * each.probability:6.2f} %  {printable(each.name)}"
      for rank, each in enumerate(candidates, start=1)
    ]
    print(printable(path), *lines, sep="\n", flush=True)

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


if __name__ == "__main__":
  entry_point.run(main, parse)
