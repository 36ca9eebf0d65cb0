"""Evaluates a trained network on a whole split: `python -m speedpaper_jax.evaluate DIR`.

On several hosts it is started on each, as training is.
"""

import argparse
import math
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedpaper_jax.command_line import entry_point, host_flags, image_flags
from speedpaper_jax.errors import UserError, inform
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  import ml_collections


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.evaluate",
    description="Evaluates a trained network on a whole split: prints top-1, top-5 and loss. On "
    "several hosts it is started on each, as training is.",
  )
  directory = parser.add_argument(
    "directory",
    type=pathlib.Path,
    metavar="DIR",
    help="directory of a training run or of converted weights, or the name of published ones",
  )
  directory.required = False  # a sentence below asks for it
  parser.add_argument("--split", metavar="NAME", help="split to evaluate (default: the run's)")
  parser.add_argument(
    "--data",
    metavar="NAME",
    help="data set to evaluate on, such as imagenet2012 or folder (default: the run's)",
  )
  parser.add_argument(
    "--data_dir",
    metavar="DIR",
    help="where prepared data lies, or a folder of images (default: the run's)",
  )
  parser.add_argument(
    "--step",
    default="newest",
    metavar="STEP",
    help="checkpoint to evaluate: newest, best, or the number of its step (default: newest)",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    metavar="N",
    help="images at a time (default: the run's own in evaluation)",
  )
  image_flags.add_image_size(parser)
  parser.add_argument(
    "--crops",
    type=int,
    choices=(1, 10),
    default=1,
    help="of each image, whose probabilities are averaged: the central one, or corners, centre and "
    "their mirror images (default: 1)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there")
  host_flags.add_to(parser)
  options, left = parser.parse_known(arguments[1:])
  if options.directory is None or left:
    raise UserError("Name one directory: python -m speedpaper_jax.evaluate DIR")
  return options


def main(options: argparse.Namespace) -> None:
  """Prints top-1, top-5 and loss of a checkpoint in a run's directory."""
  entry_point.set_up_jax()
  entry_point.join_hosts(options)
  from speedpaper_jax.data import relabel
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.distributed import hosts, parallel
  from speedpaper_jax.inference import model_directory
  from speedpaper_jax.inference.evaluation import Evaluator, needs_population_statistics
  from speedpaper_jax.interop import published
  from speedpaper_jax.storage.run_data import Images, RunData
  from speedpaper_jax.training.progress import format_evaluation

  hosts.from_main(lambda: output_files.check_all({"--json": options.json}))
  mesh = parallel.make_mesh()
  path = hosts.in_all(lambda: published.model_directory(options.directory))
  model = model_directory.load(path, mesh, hosts.from_main(lambda: _step(path, options.step)))
  model = model_directory.with_crop(model, image_size=options.image_size)
  if not model.description.num_classes:
    raise UserError(f"The network in '{path}' gives features, not classes, to evaluate.")
  config = model.config
  data = _data(config.data, options)
  config.eval_batch_size = options.batch_size or config.eval_batch_size
  opened = hosts.in_all(lambda: open_split(data.name, data.eval_split, data.dir, data.split_seed))
  RunData(opened.class_names, {"eval": Images.of(data.eval_split, opened)}).check_processes()
  eval_split, note = relabel.by_name(opened, model.description.class_names)
  if note and hosts.is_main():
    inform(f"Note: {note}")
  train_split = None
  if needs_population_statistics(config):
    trained_on = config.data if options.data else data
    train_split = open_split(
      trained_on.name, trained_on.train_split, trained_on.dir, trained_on.split_seed
    )
  evaluator = Evaluator(
    model.network, config, mesh, model.description.preprocessing, eval_split, train_split
  )
  metrics = (evaluator if options.crops == 1 else evaluator.on_ten_crops)(model.variables)
  crops = "" if options.crops == 1 else f", {options.crops} crops"
  print(f"{path} step {model.step}, {data.name} {data.eval_split}{crops}:")
  print(format_evaluation(metrics), flush=True)
  if not math.isfinite(metrics["loss"]):
    raise UserError(
      f"The loss is {metrics['loss']}: the network's answers to some images are no finite numbers; "
      "choose another checkpoint or directory."
    )
  if options.json is not None and hosts.is_main():
    what = {"data": data.name, "split": data.eval_split, "crops": options.crops}
    output_files.write_json(options.json, {"step": model.step, **what, **metrics})
  hosts.leave()


def _data(
  trained_on: "ml_collections.ConfigDict", options: argparse.Namespace
) -> "ml_collections.ConfigDict":
  """What the flags name, in a copy of the section of the config; else the run's own."""
  from speedpaper_jax.config.data_sets import DATA_SETS

  data = trained_on.copy_and_resolve_references()
  if options.data not in (None, data.name):
    base_name = re.split("[/:]", options.data)[0]
    split = DATA_SETS[base_name].eval_split if base_name in DATA_SETS else "test"
    data.update(name=options.data, dir="", eval_split=split, split_seed=0)
  if options.data_dir is not None:
    data.dir = options.data_dir
  data.eval_split = options.split or data.eval_split
  return data


def _step(path: pathlib.Path, named: str) -> int | None:
  """Number of the step that `--step` names; None for the newest whole one."""
  if named == "newest":
    return None
  if re.fullmatch(r"[0-9]+", named):
    return int(named)
  if named != "best":
    raise UserError(f"--step={named} is none of newest, best and the number of a step.")
  from speedpaper_jax.storage.run_directory import RunDirectory

  best = RunDirectory(path).best_evaluation()
  if best is None:
    raise UserError(f"'{path}' has no evaluation in its metrics.jsonl; choose --step=newest.")
  return best["step"]


if __name__ == "__main__":
  entry_point.run(main, parse)
