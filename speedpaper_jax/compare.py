"""Compares a network with another package's: `python -m speedpaper_jax.compare --model=NAME`.

`--all` compares every network with every package that has it, and writes docs/pytorch_parity.md.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  from speedpaper_jax.interop.comparison import Row
  from speedpaper_jax.interop.names import Names

_BATCHES = 4
_BATCH_SIZE = 2
# The last map of an auxiliary head has one position: batch normalization of two values is ±1.
_BATCH_SIZE_WITH_AUX_HEADS = 4


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.compare",
    description="Compares a network with another package's, on the same weights and images. "
    "The exit status is 1 where a difference exceeds its limit.",
  )
  parser.add_argument("--model", metavar="NAME", help="such as inception_v4")
  parser.add_argument(
    "--reference",
    metavar="PACKAGE",
    help="timm, torchvision, pretrainedmodels, pytorchcv, facenet, pytorch-fid or keras",
  )
  parser.add_argument("--all", action="store_true", help="every network and package")
  parser.add_argument(
    "--weights",
    type=pathlib.Path,
    metavar="FILE",
    help="a checkpoint of PyTorch's or .safetensors (default: random weights, perturbed, with the "
    "images' statistics)",
  )
  parser.add_argument(
    "--images",
    type=pathlib.Path,
    metavar="DIR",
    help="image files (default: parts of a photograph that comes with matplotlib)",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the table there")
  parser.add_argument(
    "--dtype",
    choices=("float64", "float32"),
    default="float64",
    help="float32 sets our error beside the other package's own (default: float64)",
  )
  parser.add_argument(
    "--image_size",
    type=entry_point.at_least(1, at_most=4096),
    metavar="N",
    help="pixels (default: the published weights')",
  )
  parser.add_argument(
    "--num_classes",
    type=entry_point.at_least(2, at_most=2**20),
    default=1000,
    metavar="N",
    help="of the softmax layer (default: 1000)",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(2, at_most=2**20),
    metavar="N",
    help=f"images of each of the {_BATCHES} batches of training (default: {_BATCH_SIZE}, with "
    f"auxiliary heads {_BATCH_SIZE_WITH_AUX_HEADS})",
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    default=pathlib.Path("docs/pytorch_parity.md"),
    metavar="FILE",
    help="with --all: the page to write (default: docs/pytorch_parity.md)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Compares what the flags name."""
  if options.all and options.weights is not None:
    raise UserError("--weights are of one network; name it with --model and --reference.")
  if not options.all and (options.model is None or options.reference is None):
    raise UserError("Name a network and a package with --model and --reference, or --all.")
  entry_point.set_up_jax()
  from speedpaper_jax.interop import parity_page
  from speedpaper_jax.interop.names import implementation, implementations
  from speedpaper_jax.models import registry

  if options.all:
    pairs = [(model, names) for model in registry.MODELS for names in implementations(model)]
  else:
    pairs = [(options.model, implementation(options.model, options.reference))]
  outputs = {"--json": options.json, "--out": options.out if options.all else None}
  output_files.check_all(outputs, inputs=[options.weights] if options.weights else [])
  results = []
  for model, names in pairs:
    rows = _compare(options, model, names)
    print(_table(model, names, options, rows), flush=True)
    results.append(_as_json(model, names, options, rows))
    if options.json is not None:  # after each pair, since all of them take long
      output_files.write_json(options.json, results if options.all else results[0])
  if options.all:
    output_files.write(options.out, parity_page.page(results))
  if not all(result["passed"] for result in results):
    sys.exit(1)


def _compare(options: argparse.Namespace, model: str, names: "Names") -> list["Row"]:
  import jax
  import numpy as np

  from speedpaper_jax.interop import comparison, conversion, files, images
  from speedpaper_jax.interop.pair import make_pair

  image_size = options.image_size or names.image_size
  batch_size = options.batch_size or (_BATCH_SIZE_WITH_AUX_HEADS if names.aux else _BATCH_SIZE)
  count = _BATCHES * batch_size
  if options.images is None:
    pictures = images.of_photograph(count, image_size)
  else:
    pictures = images.of_folder(options.images, count, image_size)
  num_classes, state_dict = options.num_classes, None
  if options.weights is not None:
    state_dict = files.read(options.weights)
    num_classes = conversion.count_classes(state_dict, names) or num_classes
  try:
    pair = make_pair(model, names, num_classes, image_size, state_dict)
    if state_dict is None:
      pair.reference.calibrate(pictures)
  except (RuntimeError, ValueError) as error:  # PyTorch's and Keras's, of maps that do not fit
    raise UserError(
      f"{names.source}'s {model} cannot take images of {image_size}×{image_size} ({error}); "
      f"leave --image_size out."
    ) from error
  labels = np.arange(count) * 37 % num_classes
  if options.dtype == "float32":
    return comparison.compare_float32(pair, pictures[:batch_size], labels[:batch_size])
  batches = pictures.reshape(_BATCHES, batch_size, *pictures.shape[1:])
  batch_labels = labels.reshape(_BATCHES, batch_size)
  training = comparison.TrainingComparison(pair, batches, batch_labels)
  rows = [
    *comparison.compare_evaluation(pair, pictures),
    *training.step(),
    *training.optimizers(),
  ]
  jax.clear_caches()  # programs of one network after the other would fill the memory
  return rows


def _table(model: str, names: "Names", options: argparse.Namespace, rows: list["Row"]) -> str:
  size = options.image_size or names.image_size
  title = f"{model} ({names.dialect}) and {names.source}'s, {options.dtype}, {size}×{size}"
  lines = [title]
  for row in rows:
    relation = "≥" if row.at_least else "≤"
    limit = "" if row.limit is None else f"{relation} {row.limit:.8g}"
    beside = "" if row.reference_error is None else f"{row.reference_error:10.2e} theirs"
    verdict = "" if row.passed else "EXCEEDED"
    value = f"{row.value:10.8f}" if row.at_least else f"{row.value:10.2e}"
    line = f"  {row.quantity:38} {value} {beside} {limit:13} {verdict} {row.where}"
    lines.append(line.rstrip())
  return "\n".join(lines)


def _as_json(
  model: str, names: "Names", options: argparse.Namespace, rows: list["Row"]
) -> dict[str, Any]:
  import dataclasses

  return {
    "model": model,
    "dialect": names.dialect,
    "reference": names.source,
    "image_size": options.image_size or names.image_size,
    "dtype": options.dtype,
    "passed": all(row.passed for row in rows),
    "rows": [dataclasses.asdict(row) for row in rows],
  }


if __name__ == "__main__":
  entry_point.run(main, parse)
