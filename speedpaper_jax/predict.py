"""Says what images show: `python -m speedpaper_jax.predict DIR IMAGE…`.

DIR is a training run's or one of converted weights; a directory in the place of an image stands for
all images in and below it.
"""

import pathlib

from absl import flags

from speedpaper_jax.command_line import entry_point, inference_flags
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError, printable, warn
from speedpaper_jax.files import output_files

_TOP = flags.DEFINE_integer("top", 5, "Classes to name for each image.", lower_bound=1)
_PLOT = flags.DEFINE_string(
  "plot", None, "File to draw the first 16 images and their classes to, one row an image: x.png."
)
flags.adopt_module_key_flags(inference_flags)

_BATCH_SIZE = 32


def main(argv: list[str]) -> None:
  """Prints the most probable classes of each image."""
  if len(argv) < 3:
    raise UserError(
      "Name a model directory and images: python -m speedpaper_jax.predict DIR IMAGE…"
    )
  paths = find_images(pathlib.Path(argument) for argument in argv[2:])
  json_file, plot_file = _path(inference_flags.JSON.value), _path(_PLOT.value)
  output_files.check_all({"--json": json_file, "--plot": plot_file}, inputs=paths)

  entry_point.set_up_jax()
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.files.figures import check_format
  from speedpaper_jax.inference import model_directory, plot, prediction

  if plot_file:
    check_format(plot_file)
  mesh = parallel.make_mesh()
  model = model_directory.load(pathlib.Path(argv[1]), mesh)
  batch_size = inference_flags.BATCH_SIZE.value or _BATCH_SIZE
  predictions = prediction.predict(model, mesh, paths, batch_size=batch_size, top=_TOP.value)
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

  if json_file:
    content = {
      str(path): [
        {"class": each.label, "name": each.name, "probability": each.probability}
        for each in candidates
      ]
      for path, candidates in answers
    }
    output_files.write_json(json_file, content)
  if plot_file and answers:
    shown = answers[: plot.MAX_IMAGES]
    if len(shown) < len(answers):
      warn(f"{plot_file} shows the first {len(shown)} of {len(answers)} images.")
    plot.write(plot_file, shown)
  if len(answers) < len(paths):
    raise UserError(f"{len(paths) - len(answers)} of {len(paths)} images are left out.")


def _path(flag: str | None) -> pathlib.Path | None:
  return None if flag is None else pathlib.Path(flag)


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_flags)
