"""Measures published results again: `python -m speedpaper_jax.reproduce [NAME…]`.

Published weights are evaluated as their accuracy was measured, and each number is printed beside
the published one: pass or fail, within the tolerance of its row. Each row that is done is kept, so
that the same command goes on where it was stopped.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files, user_cache

if TYPE_CHECKING:
  from speedpaper_jax.data.sources import Split
  from speedpaper_jax.inference.finished import Finished
  from speedpaper_jax.inference.members import Member
  from speedpaper_jax.published_weights.reproductions import Evaluation, Reproduction
  from speedpaper_jax.published_weights.verdicts import Judged


@dataclasses.dataclass(frozen=True)
class _Outcome:
  """Of an evaluation: its metrics, or the reason why it cannot be run."""

  metrics: Mapping[str, float] | None = None
  was_done: bool = False
  reason: str = ""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.reproduce",
    description="Evaluates published weights as their accuracy was measured, and prints each "
    "number beside the published one: pass or fail, within the tolerance of its row. The same "
    "command goes on where it was stopped. The exit status is 1 where a row fails or cannot be "
    "run.",
  )
  parser.add_argument(
    "names", nargs="*", metavar="NAME", help="weights such as timm/inception_v4 (default: all)"
  )
  parser.add_argument(
    "--table",
    choices=("validation", "other_sets", "crops"),
    default="validation",
    help="ImageNet's validation images by one crop; other labels and sister sets of ImageNet; or "
    "12 and 144 crops (default: validation)",
  )
  parser.add_argument(
    "--data_dir",
    default="",
    metavar="DIR",
    help="where data sets of TFDS lie (default: TFDS_DATA_DIR, or ~/tensorflow_datasets)",
  )
  parser.add_argument(
    "--workdir",
    type=pathlib.Path,
    metavar="DIR",
    help="where the results of rows that are done are kept (default: in the user's cache)",
  )
  parser.add_argument(
    "--labels",
    type=pathlib.Path,
    metavar="FILE",
    help="reassessed labels, real.json, which some rows of other_sets are of",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    metavar="N",
    help="crops at a time (default: 128)",
  )
  parser.add_argument(
    "--images",
    type=entry_point.at_least(1),
    metavar="N",
    help="the first so many images of each set alone, to try the command out; nothing is judged "
    "then (default: all)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints a line for each row as soon as it is done, and all of them as a table."""
  inputs = [] if options.labels is None else [options.labels]
  output_files.check_all({"--json": options.json}, inputs)
  if options.labels is not None and options.table != "other_sets":
    raise UserError("--labels is of the table other_sets; add --table=other_sets, or leave it out.")
  from speedpaper_jax.published_weights import reproductions, verdicts

  rows = reproductions.rows_of(options.table, options.names)
  entry_point.set_up_jax()
  from speedpaper_jax.data import validation_labels
  from speedpaper_jax.inference.finished import Finished

  if options.labels is not None:
    validation_labels.read_right_labels(options.labels)  # an error now, not after other rows
  finished = Finished(_workdir(options))
  outcomes: dict[Evaluation, _Outcome] = {}
  judged: list[Judged] = []
  for row in rows:
    if row.evaluation not in outcomes:
      outcomes[row.evaluation] = _outcome(row.evaluation, options, finished)
    judged.append(_judged(row, outcomes[row.evaluation]))
    is_done = " (done before)" if outcomes[row.evaluation].was_done else ""
    print(f"{judged[-1].in_words()}{is_done}", flush=True)
  print("\n".join(["", *verdicts.lines_of(judged)]), flush=True)
  if options.json is not None:
    content = {"table": options.table, "rows": [each.to_json() for each in judged]}
    output_files.write_json(options.json, content)
  _raise_if_any_failed(judged)


def _workdir(options: argparse.Namespace) -> pathlib.Path:
  if options.workdir is not None:
    given: pathlib.Path = options.workdir
    return given
  try:
    return user_cache.path("reproductions")
  except RuntimeError as error:
    raise UserError(f"There is no place for results ({error}); name one with --workdir.") from error


def _judged(row: "Reproduction", outcome: _Outcome) -> "Judged":
  from speedpaper_jax.published_weights import verdicts

  if outcome.metrics is None:
    return verdicts.cannot_be_run(row, outcome.reason)
  count = int(outcome.metrics["count"])
  top1, top5 = (round(outcome.metrics[name] * count) for name in ("top1", "top5"))
  return verdicts.judge(row, verdicts.Found(count, top1, top5))


def _outcome(
  evaluation: "Evaluation", options: argparse.Namespace, finished: "Finished"
) -> _Outcome:
  """Evaluates, or takes what is there already; what is wrong with one row leaves the others."""
  from speedpaper_jax.inference import members
  from speedpaper_jax.interop import published
  from speedpaper_jax.published_weights import table

  try:
    images = _images(evaluation, options)  # before the weights, which may have to be fetched
    member = members.read(evaluation.weights, published.of_row(table.find(evaluation.weights)))
    depends_on = _depends_on(evaluation, options, member, images)
    name = f"{evaluation.weights} {evaluation.data}"
    metrics = finished.read(name, depends_on)
    if metrics is not None:
      return _Outcome(metrics, was_done=True)
    metrics = _evaluate(evaluation, options, member, images)
    finished.write(name, depends_on, metrics)
    return _Outcome(metrics)
  except UserError as error:
    return _Outcome(reason=str(error))


def _images(evaluation: "Evaluation", options: argparse.Namespace) -> "Split":
  import numpy as np

  from speedpaper_jax.data import selection, sources

  if evaluation.reassessed and options.labels is None:
    raise UserError("It is of reassessed labels; name them with --labels=real.json.")
  images = sources.open_split(evaluation.data, evaluation.split, options.data_dir)
  if options.images is None or options.images >= len(images):
    return images
  return selection.select(images, np.arange(len(images)) < options.images)


def _depends_on(
  evaluation: "Evaluation", options: argparse.Namespace, member: "Member", images: "Split"
) -> Mapping[str, Any]:
  """All that the result depends on, as JSON has it."""
  import speedpaper_jax
  from speedpaper_jax.interop import directories

  return {
    "version": speedpaper_jax.__version__,
    **evaluation._asdict(),
    "images": len(images),
    "files": images.records.digest(),
    "labels": directories.sha256(options.labels) if evaluation.reassessed else None,
    "source": member.description.source,  # with the SHA-256 of the published file
    "preprocessing": member.description.preprocessing.to_json(),
  }


def _evaluate(
  evaluation: "Evaluation", options: argparse.Namespace, member: "Member", images: "Split"
) -> dict[str, float]:
  """Shows a bar meanwhile; goes on where the same evaluation was stopped."""
  from speedpaper_jax.command_line.progress_bar import ProgressBars
  from speedpaper_jax.data import imagenet_classes
  from speedpaper_jax.data.averaged_crops import AveragedCrops
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.inference import chosen_images, members

  labels = options.labels if evaluation.reassessed else None
  images, right = chosen_images.choose(members.relabelled([member], images), labels)
  protocol = members.EvaluationProtocol(
    AveragedCrops(evaluation.crops),
    batch_size=options.batch_size,
    among=imagenet_classes.classes_of(evaluation.data),
    right=right,
  )
  bars = ProgressBars(len(images), "images")
  ensemble = members.evaluate(
    [member],
    parallel.make_mesh(),
    images,
    protocol,
    on_images=lambda each, done: bars.update(each.name, done, each.name),
    on_member=lambda result: bars.close(result.name),
  )
  # The loss is infinite where a label is not among a set's classes.
  return {name: ensemble.metrics[name] for name in ("top1", "top5", "count")}


def _raise_if_any_failed(judged: "Sequence[Judged]") -> None:
  """The exit status is 1 then."""
  from speedpaper_jax.published_weights.verdicts import CANNOT_BE_RUN, FAIL

  words = {FAIL: "outside its tolerance", CANNOT_BE_RUN: "without a result"}
  wrong = [f"{each.row.name} is {words[each.verdict]}" for each in judged if each.verdict in words]
  if wrong:
    raise UserError(f"{len(wrong)} of {len(judged)} rows: {'; '.join(wrong)}.")


if __name__ == "__main__":
  entry_point.run(main, parse)
