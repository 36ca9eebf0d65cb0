"""Evaluates a trained network on a whole split: `python -m speedpaper_jax.evaluate DIR`.

Of several, `… evaluate DIR DIR…`, also the ensemble by the mean of their probabilities, and how the
error falls with the number of members. On several hosts it is started on each, as training is.
"""

import argparse
import collections
import math
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import entry_point, host_flags, image_flags
from speedpaper_jax.errors import UserError, inform
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  import ml_collections

  from speedpaper_jax.data.sources import Split
  from speedpaper_jax.inference.members import Ensemble, Member, Result


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.evaluate",
    description="Evaluates a trained network on a whole split: prints top-1, top-5 and loss; of "
    "several also those of the ensemble by the mean of their probabilities, and the error against "
    "the number of members. On several hosts it is started on each, as training is.",
  )
  directories = parser.add_argument(
    "directories",
    type=pathlib.Path,
    nargs="*",
    metavar="DIR",
    help="directory of a training run or of converted weights, or the name of published ones",
  )
  directories.required = False  # a sentence below asks for them
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
  parser.add_argument(
    "--probabilities",
    type=pathlib.Path,
    metavar="FILE",
    help="save labels and what each network says of each image there, such as x.npz",
  )
  host_flags.add_to(parser)
  options, left = parser.parse_known(arguments[1:])
  if not options.directories or left:
    raise UserError("Name one directory or several: python -m speedpaper_jax.evaluate DIR…")
  twice = [path for path, times in collections.Counter(options.directories).items() if times > 1]
  if twice:
    raise UserError(f"'{twice[0]}' is named twice; name each member of an ensemble once.")
  return options


def main(options: argparse.Namespace) -> None:
  """Prints top-1, top-5 and loss of a network, or of several and of their ensemble."""
  entry_point.set_up_jax()
  entry_point.join_hosts(options)
  from speedpaper_jax.distributed import hosts

  outputs = {"--json": options.json, "--probabilities": options.probabilities}
  hosts.from_main(lambda: output_files.check_all(outputs))
  if len(options.directories) == 1:
    _evaluate_one(options)
  else:
    _evaluate_several(options)
  hosts.leave()


def _evaluate_one(options: argparse.Namespace) -> None:
  from speedpaper_jax.data import relabel
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.distributed import hosts, parallel
  from speedpaper_jax.inference import members, model_directory
  from speedpaper_jax.inference.evaluation import Evaluator, needs_population_statistics
  from speedpaper_jax.interop import published
  from speedpaper_jax.storage.run_data import Images, RunData
  from speedpaper_jax.training.progress import format_evaluation

  mesh = parallel.make_mesh()
  (directory,) = options.directories
  path = hosts.in_all(lambda: published.model_directory(directory))
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
  if options.probabilities is not None:
    answers = evaluator.probabilities(model.variables, _crops(options))
    arrays = members.arrays([str(directory)], answers.labels, [answers.values])
    _write(options.probabilities, lambda path: output_files.write_npz(path, arrays))
  what = {"data": data.name, "split": data.eval_split, "crops": options.crops}
  content = {"step": model.step, **what, **metrics}
  _write(options.json, lambda path: output_files.write_json(path, content))


def _evaluate_several(options: argparse.Namespace) -> None:
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import members
  from speedpaper_jax.training.progress import format_evaluation

  found = _members(options)
  data, images = _shared_images(options, found)
  crops = "" if options.crops == 1 else f", {options.crops} crops"
  print(f"{data.name} {data.eval_split}{crops}, {len(found)} members:", flush=True)

  def show(result: "Result") -> None:
    print(f"{_in_words(result)}: {format_evaluation(result.metrics)}", flush=True)

  ensemble = members.evaluate(
    found,
    parallel.make_mesh(),
    images,
    batch_size=options.batch_size,
    crops=_crops(options),
    on_member=show,
  )
  print(f"ensemble: {format_evaluation(ensemble.metrics)}")
  print("\n".join(_curve(ensemble)), flush=True)
  what = {"data": data.name, "split": data.eval_split, "crops": options.crops}
  content = {**what, **ensemble.to_json()}
  _write(options.json, lambda path: output_files.write_json(path, content))
  _write(options.probabilities, lambda path: output_files.write_npz(path, ensemble.arrays()))


def _members(options: argparse.Namespace) -> "list[Member]":
  """What is known of all of them without their weights."""
  from speedpaper_jax.distributed import hosts
  from speedpaper_jax.inference import members, model_directory
  from speedpaper_jax.interop import published

  def read(directory: pathlib.Path) -> "Member":
    path = hosts.in_all(lambda: published.model_directory(directory))
    step = hosts.from_main(lambda: _step(path, options.step))
    own = model_directory.load_config(path).data
    trained_on = own if options.data else _data(own, options)
    return members.read(str(directory), path, step, trained_on, image_size=options.image_size)

  return [read(directory) for directory in options.directories]


def _shared_images(
  options: argparse.Namespace, found: "Sequence[Member]"
) -> "tuple[ml_collections.ConfigDict, Split]":
  """The images that all members are evaluated on, and the section of a config that names them."""
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.distributed import hosts
  from speedpaper_jax.storage.run_data import Images, RunData

  first, *others = ((member.name, _data(member.config.data, options)) for member in found)

  def open_images(data: "ml_collections.ConfigDict") -> "Split":
    return hosts.in_all(lambda: open_split(data.name, data.eval_split, data.dir, data.split_seed))

  name, data = first
  images = open_images(data)
  digest = Images.of(data.eval_split, images)
  RunData(images.class_names, {"eval": digest}).check_processes()
  for other_name, other in others:
    if other == data or Images.of(other.eval_split, open_images(other)).are(digest):
      continue
    raise UserError(
      f"'{name}' is evaluated on {data.name}, split {data.eval_split}, and '{other_name}' on other "
      f"images, {other.name}, split {other.eval_split}; name one data set and split for all with "
      "--data, --data_dir and --split."
    )
  return data, images


def _in_words(result: "Result") -> str:
  crop = result.preprocessing.crop
  return (
    f"{result.name} step {result.step}, {crop.image_size} pixels, {crop.resize}, "
    f"{crop.interpolation}, central {crop.central_fraction:.4g}"
  )


def _curve(ensemble: "Ensemble") -> list[str]:
  """Lines of the table over the number of members."""
  from speedpaper_jax.inference.ensembles import ALL_SUBSETS_UP_TO

  of = "all subsets of so many members"
  if len(ensemble.members) > ALL_SUBSETS_UP_TO:
    of = "the first so many members, in the order given"
  rows = [
    f"{row.count:7}  {row.subsets:7}  {row.mean:7.2%}  {row.lowest:7.2%}  {row.highest:7.2%}"
    for row in ensemble.by_count
  ]
  return [f"top-1 error of {of}:", "members  subsets     mean   lowest  highest", *rows]


def _crops(options: argparse.Namespace) -> Any:
  """What makes of the central crop the crops that are averaged."""
  from speedpaper_jax.data.ten_crops import TenCrops

  return TenCrops if options.crops == 10 else lambda crop: crop


def _write(path: pathlib.Path | None, write: Callable[[pathlib.Path], None]) -> None:
  """Writes a file that a flag names, if it is given, in the main process."""
  from speedpaper_jax.distributed import hosts

  if path is not None and hosts.is_main():
    write(path)


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
