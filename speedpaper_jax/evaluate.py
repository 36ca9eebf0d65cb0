"""Evaluates a trained network on a whole split: `python -m speedpaper_jax.evaluate DIR`."""

import pathlib

from absl import flags

from speedpaper_jax import entry_point, inference_flags, output_files
from speedpaper_jax.errors import UserError

_SPLIT = flags.DEFINE_string("split", None, "Split to evaluate; the run's own by default.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data lies; the run's by default.")
flags.adopt_module_key_flags(inference_flags)


def main(argv: list[str]) -> None:
  """Prints top-1, top-5 and loss of the newest whole checkpoint in a run's directory."""
  if len(argv) != 2:
    raise UserError("Name one directory: python -m speedpaper_jax.evaluate DIR")

  entry_point.set_up_jax()
  from speedpaper_jax import model_directory, parallel
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.evaluation import Evaluator, needs_population_statistics
  from speedpaper_jax.progress import format_evaluation

  if inference_flags.JSON.value:
    output_files.check(pathlib.Path(inference_flags.JSON.value))
  mesh = parallel.make_mesh()
  path = pathlib.Path(argv[1])
  model = model_directory.load(path, mesh)
  config, data = model.config, model.config.data
  data.dir = data.dir if _DATA_DIR.value is None else _DATA_DIR.value
  config.eval_batch_size = inference_flags.BATCH_SIZE.value or config.eval_batch_size
  split = _SPLIT.value or data.eval_split
  eval_split = open_split(data.name, split, data.dir)
  if eval_split.num_classes != model.description.num_classes:
    raise UserError(
      f"The network in '{path}' has {model.description.num_classes} classes, but the data set "
      f"'{data.name}' has {eval_split.num_classes}; evaluate it on data of its own classes."
    )
  train_split = None
  if needs_population_statistics(config):
    train_split = open_split(data.name, data.train_split, data.dir)
  evaluator = Evaluator(config, mesh, model.description.preprocessing, eval_split, train_split)
  metrics = evaluator(model.variables)
  print(f"{path} step {model.step}, {data.name} {split}:")
  print(format_evaluation(metrics))
  if inference_flags.JSON.value:
    result = {"step": model.step, "data": data.name, "split": split, **metrics}
    output_files.write_json(pathlib.Path(inference_flags.JSON.value), result)


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_flags)
