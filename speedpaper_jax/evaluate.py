"""Evaluates trained networks on a whole split: `python -m speedpaper_jax.evaluate DIR|NAME…`.

Of several also the ensemble by the mean of their probabilities, and how the error falls with the
number of members. By 1, 10, 12 or 144 crops of each image. The same command continues an evaluation
that was interrupted. On several hosts it is started on each, as training is.
"""

import argparse
import collections
import contextlib
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import entry_point, host_flags, image_flags
from speedpaper_jax.errors import UserError, inform, printable
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  import ml_collections

  from speedpaper_jax.data.crop import EvaluationCrop
  from speedpaper_jax.data.sources import Split
  from speedpaper_jax.inference.members import Ensemble, EvaluationProtocol, Member, Result


_WORST_IMAGES = 24


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.evaluate",
    description="Evaluates a trained network on a whole split: prints top-1, top-5 and loss; of "
    "several also those of the ensemble by the mean of their probabilities, and the error against "
    "the number of members. The same command continues an interrupted evaluation. On several hosts "
    "it is started on each, as training is.",
  )
  directories = parser.add_argument(
    "directories",
    type=pathlib.Path,
    nargs="*",
    metavar="DIR|NAME",
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
    "--raw_weights",
    action="store_true",
    help="take the weights as the last step left them (default: their moving average, where a run "
    "has one)",
  )
  parser.add_argument(
    "--statistics",
    choices=("moving_average", "population"),
    help="of batch normalization: those that training left, or Algorithm 2's, from the first "
    "batches of training images (default: the run's)",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    metavar="N",
    help="crops at a time (default: the run's own in evaluation)",
  )
  image_flags.add_image_size(parser)
  parser.add_argument(
    "--crops",
    type=int,
    choices=(1, 10, 12, 144),
    default=1,
    help="of each image, whose probabilities are averaged: the central one; corners, centre and "
    "their mirror images; or the papers' at one scale or four (default: 1)",
  )
  parser.add_argument(
    "--scales",
    choices=("proportional", "grown"),
    help="of 12 and 144 crops that are not 224 pixels large: 256 to 352 pixels in proportion, or "
    "by as many pixels more (default: proportional)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there")
  parser.add_argument(
    "--probabilities",
    type=pathlib.Path,
    metavar="FILE",
    help="save labels and what each network says of each image there, such as x.npz",
  )
  parser.add_argument(
    "--per_class",
    type=pathlib.Path,
    metavar="FILE",
    help="write each class's images and errors there, such as x.csv",
  )
  parser.add_argument(
    "--worst_images",
    type=pathlib.Path,
    metavar="FILE",
    help="draw the images there of which a wrong class is thought most probable, such as x.png",
  )
  parser.add_argument(
    "--show_crops",
    type=pathlib.Path,
    metavar="FILE",
    help="draw the crops of the first image there before all else, such as x.png",
  )
  parser.add_argument(
    "--labels",
    type=pathlib.Path,
    metavar="FILE",
    help="right classes of ImageNet's validation images, real.json; see docs/evaluation.md",
  )
  parser.add_argument(
    "--exclude",
    type=pathlib.Path,
    metavar="FILE",
    help="ImageNet's validation images to leave out, one a line; see docs/evaluation.md",
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
  if options.scales is not None and options.crops not in (12, 144):
    raise UserError("--scales is of 12 and 144 crops; add --crops=144, or leave it out.")
  if not re.fullmatch(r"newest|best|[0-9]+", options.step):
    raise UserError(f"--step={options.step} is none of newest, best and the number of a step.")
  entry_point.set_up_jax()
  entry_point.join_hosts(options)
  from speedpaper_jax.distributed import hosts
  from speedpaper_jax.interop import network_paths

  hosts.from_main(lambda: _check_outputs(options))
  hosts.from_main(lambda: network_paths.check(options.directories))
  # Imported once the flags are known to be good, so that mistakes are reported without delay.
  from speedpaper_jax.data import imagenet_classes
  from speedpaper_jax.data.averaged_crops import AveragedCrops
  from speedpaper_jax.inference import chosen_images, members

  found = _members(options)
  data, images = _shared_images(options, found)
  images = members.relabelled(found, images)
  images, right = chosen_images.choose(images, options.labels, options.exclude)
  protocol = members.EvaluationProtocol(
    AveragedCrops(options.crops, options.scales or "proportional"),
    batch_size=options.batch_size,
    averaged=not options.raw_weights,
    among=imagenet_classes.classes_of(_base_name(data.name)),
    right=right,
  )
  by_crops = f", {options.crops} crops" if options.crops > 1 else ""
  among = f", among {len(protocol.among)} classes" if protocol.among else ""
  several = f", {len(found)} members" if len(found) > 1 else ""
  print(f"{data.name} {data.eval_split}{by_crops}{among}{several}:", flush=True)
  crop = found[0].description.preprocessing.crop
  _write(options.show_crops, lambda path: _draw_crops(path, images, crop, protocol))
  ensemble = _evaluate(found, images, protocol)
  _print(found, ensemble, data, protocol)
  content = _content(ensemble, data, options, protocol)
  _write(options.json, lambda path: output_files.write_json(path, content))
  _write(options.probabilities, lambda path: output_files.write_npz(path, ensemble.arrays()))
  _write(options.per_class, lambda path: _write_classes(path, ensemble))
  _write(options.worst_images, lambda path: _draw_worst(path, ensemble, images, crop))
  hosts.leave()


def _check_outputs(options: argparse.Namespace) -> None:
  figures = ("worst_images", "show_crops")
  names = ("json", "probabilities", "per_class", *figures)
  inputs = [path for path in (options.labels, options.exclude) if path is not None]
  output_files.check_all({f"--{name}": getattr(options, name) for name in names}, inputs)
  for path in filter(None, (getattr(options, name) for name in figures)):
    from speedpaper_jax.files.figures import check_format

    check_format(path)


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
    return members.read(
      str(directory),
      path,
      step,
      trained_on,
      statistics=options.statistics,
      image_size=options.image_size,
    )

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


def _evaluate(
  found: "Sequence[Member]", images: "Split", protocol: "EvaluationProtocol"
) -> "Ensemble":
  """Evaluates with a line for each member, and a bar while it is at work."""
  from speedpaper_jax.command_line.progress_bar import ProgressBars
  from speedpaper_jax.distributed import hosts, parallel
  from speedpaper_jax.inference import members
  from speedpaper_jax.training.progress import format_evaluation

  bars = ProgressBars(len(images), "images")

  def advance(member: "Member", done: int) -> None:
    if hosts.is_main():
      bars.update(member.name, done, member.name if len(found) > 1 else "")

  def show(result: "Result") -> None:
    bars.close(result.name)
    print(f"{_in_words(result, protocol)}: {format_evaluation(result.metrics)}", flush=True)

  return members.evaluate(
    found, parallel.make_mesh(), images, protocol, on_images=advance, on_member=show
  )


def _in_words(result: "Result", protocol: "EvaluationProtocol") -> str:
  crop = result.preprocessing.crop
  place = f"central {crop.central_fraction:.4g}"
  if protocol.crops.number in (12, 144):  # they have scales instead
    place = protocol.crops.in_words(crop.image_size)
  return (
    f"{result.name} step {result.step}, {crop.image_size} pixels, {crop.resize}, "
    f"{crop.interpolation}, {place}"
  )


def _print(
  found: "Sequence[Member]",
  ensemble: "Ensemble",
  data: "ml_collections.ConfigDict",
  protocol: "EvaluationProtocol",
) -> None:
  """The ensemble, if there is one, and the papers' errors by the same number of crops."""
  from speedpaper_jax.papers import printed_errors
  from speedpaper_jax.training.progress import format_evaluation

  if len(found) > 1:
    print(f"ensemble: {format_evaluation(ensemble.metrics)}")
    print("\n".join(_curve(ensemble)), flush=True)
  is_papers = _base_name(data.name) == "imagenet2012" and data.eval_split.startswith("validation")
  if not is_papers or protocol.right is not None:
    return
  number = protocol.crops.number
  names = [member.description.name for member in found]
  rows = [
    (row.source, row.images, *("–" if error is None else f"{error:g}" for error in row[3:5]))
    for row in printed_errors.of(names, number)
  ]
  if not rows:
    return
  top1, top5 = (f"{100 * (1 - ensemble.metrics[name]):.2f}" for name in ("top1", "top5"))
  here = ("this evaluation", ensemble.metrics["count"], top1, top5)
  print(f"errors by {number} crop{'s' * (number > 1)} in percent   images   top-1   top-5")
  for source, images, *errors in (here, *rows):
    print(f"{source:30}  {images:>6,}  {errors[0]:>6}  {errors[1]:>6}")


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


def _content(
  ensemble: "Ensemble",
  data: "ml_collections.ConfigDict",
  options: argparse.Namespace,
  protocol: "EvaluationProtocol",
) -> Mapping[str, Any]:
  """Of the file of `--json`; of one network all side by side."""
  what: dict[str, Any] = {
    "data": data.name,
    "split": data.eval_split,
    "crops": options.crops,
    "weights": "raw" if options.raw_weights else "averaged",
  }
  if options.crops in (12, 144):
    what["scales"] = protocol.crops.scales
  if protocol.among:
    what["among"] = len(protocol.among)
  for name in ("labels", "exclude"):
    if (path := getattr(options, name)) is not None:
      what[name] = str(path)
  if len(ensemble.members) > 1:
    return {**what, **ensemble.to_json()}
  return {**what, **ensemble.members[0].to_json()}


def _write_classes(path: pathlib.Path, ensemble: "Ensemble") -> None:
  from speedpaper_jax.inference import per_class

  names = _class_names(ensemble)
  output_files.write(path, per_class.as_csv(ensemble.average, ensemble.right, names))


def _draw_crops(
  path: pathlib.Path, images: "Split", crop: "EvaluationCrop", protocol: "EvaluationProtocol"
) -> None:
  """Of the first image that can be decoded, for the first member."""
  from speedpaper_jax.data.decode import DecodeError
  from speedpaper_jax.inference import crops_plot

  for number in range(len(images)):
    with contextlib.suppress(DecodeError):
      crops_plot.write(path, images.records[number]["image"], crop, protocol.crops)
      return


def _draw_worst(
  path: pathlib.Path, ensemble: "Ensemble", images: "Split", crop: "EvaluationCrop"
) -> None:
  """As the first member sees them by one crop."""
  import numpy as np

  from speedpaper_jax.inference import worst_images
  from speedpaper_jax.reports import mistakes

  worst = worst_images.look_at(
    ensemble.average,
    ensemble.right,
    ensemble.numbers,
    images,
    crop,
    _WORST_IMAGES,
  )
  if not worst:
    inform(f"There is no mistake, and nothing to draw in '{path}'.")
    return
  names = _class_names(ensemble)
  titles = [
    mistakes.title(names[each.own], names[each.taken], f"{each.probability:.1%}") for each in worst
  ]
  mistakes.write(path, np.stack([each.pixels for each in worst]), titles)


def _class_names(ensemble: "Ensemble") -> list[str]:
  """In English where they are ImageNet's, on one line each."""
  from speedpaper_jax.data.imagenet_classes import english_name

  return [printable(english_name(name)) for name in ensemble.class_names]


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
    base_name = _base_name(options.data)
    split = DATA_SETS[base_name].eval_split if base_name in DATA_SETS else "test"
    if base_name.startswith("imagenet2012_"):  # of the same images
      split = DATA_SETS["imagenet2012"].eval_split
    data.update(name=options.data, dir="", eval_split=split, split_seed=0)
  if options.data_dir is not None:
    data.dir = options.data_dir
  data.eval_split = options.split or data.eval_split
  return data


def _base_name(data_set: str) -> str:
  """Without configuration and version."""
  return re.split("[/:]", data_set)[0]


def _step(path: pathlib.Path, named: str) -> int | None:
  """Number of the step that `--step` names; None for the newest whole one."""
  if named == "newest":
    return None
  if named != "best":
    return int(named)
  from speedpaper_jax.storage.run_directory import RunDirectory

  best = RunDirectory(path).best_evaluation()
  if best is None:
    raise UserError(f"'{path}' has no evaluation in its metrics.jsonl; choose --step=newest.")
  return best["step"]


if __name__ == "__main__":
  entry_point.run(main, parse)
