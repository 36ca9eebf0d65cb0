"""Evaluates a trained network on a whole split: `python -m speedpaper_jax.evaluate DIR`.

On several hosts it is started on each, as training is.
"""

import math
import pathlib
import re
from typing import TYPE_CHECKING

from absl import flags

from speedpaper_jax.command_line import entry_point, host_flags, inference_flags
from speedpaper_jax.errors import UserError, tell
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  import ml_collections

_SPLIT = flags.DEFINE_string("split", None, "Split to evaluate; the run's own by default.")
_DATA = flags.DEFINE_string(
  "data", None, "Data set to evaluate on, such as imagenet2012 or folder; the run's own by default."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where prepared data lies, or a folder of images; the run's by default."
)
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
  from speedpaper_jax.data import relabel
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.distributed import hosts, parallel
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.inference.evaluation import Evaluator, needs_population_statistics
  from speedpaper_jax.storage.run_data import Images, RunData
  from speedpaper_jax.training.progress import format_evaluation

  json_file = pathlib.Path(inference_flags.JSON.value) if inference_flags.JSON.value else None
  hosts.from_main(lambda: output_files.check_all({"--json": json_file}))
  mesh = parallel.make_mesh()
  path = pathlib.Path(argv[1])
  model = model_directory.load(path, mesh, hosts.from_main(lambda: _step(path)))
  if not model.description.num_classes:
    raise UserError(f"The network in '{path}' gives features, not classes, to evaluate.")
  config = model.config
  data = _data(config.data)
  config.eval_batch_size = inference_flags.BATCH_SIZE.value or config.eval_batch_size
  opened = hosts.in_all(lambda: open_split(data.name, data.eval_split, data.dir))
  RunData(opened.class_names, {"eval": Images.of(data.eval_split, opened)}).check_processes()
  eval_split, note = relabel.by_name(opened, model.description.class_names)
  if note and hosts.is_main():
    tell(f"Note: {note}")
  train_split = None
  if needs_population_statistics(config):
    trained_on = config.data if _DATA.value else data
    train_split = open_split(trained_on.name, trained_on.train_split, trained_on.dir)
  evaluator = Evaluator(
    model.network, config, mesh, model.description.preprocessing, eval_split, train_split
  )
  metrics = evaluator(model.variables)
  print(f"{path} step {model.step}, {data.name} {data.eval_split}:")
  print(format_evaluation(metrics), flush=True)
  if not math.isfinite(metrics["loss"]):
    raise UserError(
      f"The loss is {metrics['loss']}: the network's answers to some images are no finite numbers; "
      "choose another checkpoint or directory."
    )
  if json_file is not None and hosts.is_main():
    result = {"step": model.step, "data": data.name, "split": data.eval_split, **metrics}
    output_files.write_json(json_file, result)
  hosts.leave()


def _data(trained_on: "ml_collections.ConfigDict") -> "ml_collections.ConfigDict":
  """What the flags name, in a copy of the section of the config; else the run's own."""
  from speedpaper_jax.config.data_sets import DATA_SETS

  data = trained_on.copy_and_resolve_references()
  if _DATA.value not in (None, data.name):
    base_name = re.split("[/:]", _DATA.value)[0]
    split = DATA_SETS[base_name].eval_split if base_name in DATA_SETS else "test"
    data.update(name=_DATA.value, dir="", eval_split=split)
  if _DATA_DIR.value is not None:
    data.dir = _DATA_DIR.value
  data.eval_split = _SPLIT.value or data.eval_split
  return data


def _step(path: pathlib.Path) -> int | None:
  """Number of the step that `--step` names; None for the newest whole one."""
  if _STEP.value == "newest":
    return None
  if re.fullmatch(r"[0-9]+", _STEP.value):
    return int(_STEP.value)
  if _STEP.value != "best":
    raise UserError(f"--step={_STEP.value} is none of newest, best and the number of a step.")
  from speedpaper_jax.storage.run_directory import RunDirectory

  best = RunDirectory(path).best_evaluation()
  if best is None:
    raise UserError(f"'{path}' has no evaluation in its metrics.jsonl; choose --step=newest.")
  return best["step"]


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_flags)
