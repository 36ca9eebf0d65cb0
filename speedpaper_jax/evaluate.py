"""Evaluates a trained network on a whole split: `python -m speedpaper_jax.evaluate DIR`.

On several hosts it is started on each, as training is.
"""

import pathlib

from absl import flags

from speedpaper_jax import entry_point, host_flags, inference_flags, output_files
from speedpaper_jax.errors import UserError

_SPLIT = flags.DEFINE_string("split", None, "Split to evaluate; the run's own by default.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data lies; the run's by default.")
_STEP = flags.DEFINE_string(
  "step", "newest", "Checkpoint to evaluate: newest, best, or the number of its step."
)
flags.adopt_module_key_flags(inference_flags)
flags.adopt_module_key_flags(host_flags)


def main(argv: list[str]) -> None:
  """Prints top-1, top-5 and loss of a checkpoint in a run's directory."""
  if len(argv) != 2:
    raise UserError("Name one directory: python -m speedpaper_jax.evaluate DIR")

  entry_point.set_up_jax()
  entry_point.join_hosts()
  from speedpaper_jax import hosts, model_directory, parallel
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.evaluation import Evaluator, needs_population_statistics
  from speedpaper_jax.progress import format_evaluation

  if inference_flags.JSON.value:
    output_files.check(pathlib.Path(inference_flags.JSON.value))
  mesh = parallel.make_mesh()
  path = pathlib.Path(argv[1])
  model = model_directory.load(path, mesh, hosts.from_main(lambda: _step(path)))
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
  print(format_evaluation(metrics), flush=True)
  if inference_flags.JSON.value and hosts.is_main():
    result = {"step": model.step, "data": data.name, "split": split, **metrics}
    output_files.write_json(pathlib.Path(inference_flags.JSON.value), result)
  hosts.leave()


def _step(path: pathlib.Path) -> int | None:
  """Number of the step that `--step` names; None for the newest whole one."""
  if _STEP.value == "newest":
    return None
  if _STEP.value.isdigit():
    return int(_STEP.value)
  if _STEP.value != "best":
    raise UserError(f"--step={_STEP.value} is none of newest, best and the number of a step.")
  from speedpaper_jax.run_directory import RunDirectory

  best = RunDirectory(path).best_evaluation()
  if best is None:
    raise UserError(f"'{path}' has no evaluation in its metrics.jsonl; choose --step=newest.")
  return best["step"]


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_flags)
