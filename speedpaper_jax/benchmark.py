"""Measures how fast networks are: `python -m speedpaper_jax.benchmark --model=inception_v4`.

  python -m speedpaper_jax.benchmark --model=inception_v4 --against=timm

Ours and the other are processes of their own that take turns, on the same batch, which stays in
memory: the forward pass, the gradient and a step of SGD with momentum, and probabilities in
inference. No data set is needed, and of packages JAX, Flax, Optax and ml_collections, beside those
of the other implementation.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import determinism_flag, entry_point
from speedpaper_jax.compilation import determinism
from speedpaper_jax.errors import UserError, did_you_mean, inform
from speedpaper_jax.files import output_files
from speedpaper_jax.papers.networks import NETWORKS

if TYPE_CHECKING:
  from speedpaper_jax.benchmarking.work import Work

_ALL = "all"
_NOT_OF_IMAGENET = "small_inception"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.benchmark",
    description="Prints how many images a second networks train and predict, how long they take to "
    "start, and what they need, beside other implementations if one is named.",
  )
  parser.add_argument(
    "--model",
    default="bn_inception",
    metavar="NAME",
    help="a network, several with commas between them, or all six of ImageNet (default: "
    "bn_inception)",
  )
  parser.add_argument(
    "--against",
    metavar="NAME",
    help="flax (the same network of flax.linen's own layers), keras, or a package of PyTorch's "
    "networks: timm, torchvision, pretrainedmodels, pytorchcv or facenet; several with commas",
  )
  parser.add_argument(
    "--mode", metavar="NAME", help="training or inference (default: both, one after the other)"
  )
  parser.add_argument(
    "--image_size",
    type=entry_point.at_least(1, at_most=4096),
    metavar="N",
    help="pixels, height and width (default: the paper's, 224 or 299)",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(2, at_most=2**20),
    default=8,
    metavar="N",
    help="images at a time (default: 8)",
  )
  parser.add_argument(
    "--dtype", default="float32", metavar="NAME", help="float32 or bfloat16 (default: float32)"
  )
  parser.add_argument("--device", metavar="NAME", help="cpu, gpu or tpu (default: what JAX finds)")
  parser.add_argument(
    "--turns",
    type=entry_point.at_least(1, at_most=1000),
    default=5,
    metavar="N",
    help="of each implementation (default: 5)",
  )
  parser.add_argument(
    "--seconds",
    type=entry_point.at_least(1, at_most=3600),
    default=3,
    metavar="N",
    help="that a turn lasts, or one step where that is longer (default: 3)",
  )
  determinism_flag.add_to(parser)
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there")
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Measures what the flags name, and prints a line as soon as it is known."""
  from speedpaper_jax.benchmarking import tables, turns, work

  modes = _chosen("--mode", options.mode, work.MODES) or work.MODES
  _chosen("--dtype", options.dtype, ("float32", "bfloat16"))
  _chosen("--device", options.device, ("cpu", "gpu", "tpu"))
  comparisons = _comparisons(options)
  if options.json is not None:
    output_files.check(options.json)
  determinism_flag.apply(options)  # in the environment, which the sides' processes have, too
  peaks = turns.find_peaks(options.device or "", options.dtype)
  _print_device(peaks, options)
  print(tables.heading(), flush=True)
  rows = []
  for model, dialect, sides in comparisons:
    image_size = options.image_size or NETWORKS[model].image_size
    for mode in modes:
      task = work.Work(
        model, dialect, mode, image_size, options.batch_size, options.dtype, peaks["device"]
      )
      rows.append(_measure(task, sides, peaks, options))
      print(tables.lines(rows[-1]), flush=True)
      if options.json is not None:  # each time, so that what is interrupted leaves what it has
        numbers = {"peaks": peaks, "deterministic": determinism.is_on(), "rows": rows}
        output_files.write_json(options.json, numbers)
  print(f"\n{tables.NOTES}")


def _measure(
  task: "Work", sides: Sequence[str], peaks: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
  from speedpaper_jax.benchmarking import tables, turns
  from speedpaper_jax.descriptions import stages

  measured = turns.measure(task, sides, turns=options.turns, seconds=options.seconds)
  network = stages.describe(task.model, task.dialect, image_size=task.image_size)
  return tables.as_row(task, measured, network.multiply_adds, peaks)


def _chosen(flag: str, value: str | None, valid: Sequence[str]) -> Sequence[str]:
  """The values of a flag, with commas between them, each once."""
  names = [] if value is None else list(dict.fromkeys(value.split(",")))
  for name in names:
    if name not in valid:
      raise UserError(f"{flag} names '{name}'.{did_you_mean(name, valid)}")
  return names


def _comparisons(options: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
  """Network, dialect, and the sides that have it, which take turns."""
  from speedpaper_jax.benchmarking import peers
  from speedpaper_jax.models import registry

  models = _chosen("--model", options.model, (*NETWORKS, _ALL))
  if _ALL in models:
    models = [name for name in NETWORKS if name != _NOT_OF_IMAGENET]
  against = _chosen("--against", options.against, peers.NAMES)
  comparisons: list[tuple[str, str, list[str]]] = []
  missing: dict[str, list[str]] = {}  # of each package
  for model in models:
    sides: dict[str, list[str]] = {}  # of each dialect
    for name in against:
      dialect = peers.dialect_of(model, name)
      if dialect is not None:
        sides.setdefault(dialect, []).append(name)
      elif name != peers.FLAX:
        missing.setdefault(name, []).append(model)
    plain = [peers.FLAX] if peers.FLAX in against else []  # of any dialect
    if plain or not against:
      dialect = next(iter(sides), registry.dialects(model)[0])
      sides.setdefault(dialect, []).extend(plain)
    comparisons += [(model, dialect, ["ours", *others]) for dialect, others in sides.items()]
  if missing:
    lacks = "; ".join(f"{name} has no {', '.join(models)}" for name, models in missing.items())
    if not comparisons:
      raise UserError(f"{lacks}; name another one with --against.")
    inform(f"Note: {lacks}; the others are measured.")
  return comparisons


def _print_device(peaks: dict[str, Any], options: argparse.Namespace) -> None:
  kind = "published" if peaks["are_published"] else "measured here"
  deterministic = ", deterministic" if determinism.is_on() else ""
  print(
    f"{peaks['device_kind']}, {options.dtype}{deterministic}, batches of {options.batch_size}; "
    f"peaks, {kind}: "
    f"{peaks['flops'] / 1e9:,.0f} GFLOP/s, {peaks['bandwidth'] / 1e9:,.1f} GB/s\n"
  )


if __name__ == "__main__":
  entry_point.run(main, parse)
