"""Evaluates a trained network on a whole split: `python -m speedpaper_jax.evaluate DIR`."""

import contextlib
import json
import pathlib

import ml_collections
from absl import flags

from speedpaper_jax import entry_point
from speedpaper_jax.errors import UserError

_SPLIT = flags.DEFINE_string("split", None, "Split to evaluate; the run's own by default.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data lies; the run's by default.")
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", None, "Images at a time; the run's by default.", lower_bound=1
)
_JSON = flags.DEFINE_string("json", None, "File to write the result to as well.")


def main(argv: list[str]) -> None:
  """Prints top-1, top-5 and loss of the newest whole checkpoint in a run's directory."""
  if len(argv) != 2:
    raise UserError("Name one directory: python -m speedpaper_jax.evaluate DIR")

  entry_point.set_up_jax()
  from speedpaper_jax import build, parallel
  from speedpaper_jax.checkpoint import Checkpoints
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.durations import Durations
  from speedpaper_jax.evaluation import Evaluator
  from speedpaper_jax.progress import format_evaluation
  from speedpaper_jax.run_directory import RunDirectory

  directory = RunDirectory(pathlib.Path(argv[1]))
  config = ml_collections.ConfigDict(directory.read("config.json"))
  config.data.eval_split = _SPLIT.value or config.data.eval_split
  config.data.dir = config.data.dir if _DATA_DIR.value is None else _DATA_DIR.value
  config.eval_batch_size = _BATCH_SIZE.value or config.eval_batch_size

  mesh = parallel.make_mesh()
  train_split = open_split(config.data.name, config.data.train_split, config.data.dir)
  eval_split = open_split(config.data.name, config.data.eval_split, config.data.dir)
  model = build.build_inference_model(config, train_split.num_classes, mesh)
  optimizer = build.build_optimizer(config, Durations(config.batch_size, len(train_split)))
  template = build.state_template(config, model, optimizer, mesh)
  with contextlib.closing(Checkpoints(directory.checkpoints, read_only=True)) as saved:
    restored = saved.restore(template)
  if restored is None:
    raise UserError(f"There is no checkpoint in {directory.checkpoints}; train for longer.")
  step, state, _ = restored
  metrics = Evaluator(config, mesh, train_split, eval_split)(state.evaluated)
  print(f"{directory.path} step {step}, {config.data.name} {config.data.eval_split}:")
  print(format_evaluation(metrics))
  if _JSON.value:
    result = {"step": step, "data": config.data.name, "split": config.data.eval_split, **metrics}
    try:
      pathlib.Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
      raise UserError(f"{_JSON.value} cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_flags)
