"""Explains what a paper's equations compute: `python -m speedpaper_jax.explain bn`.

Each line of Batch Normalization's algorithms is printed with its formula and its numbers on a small
batch, beside what JAX, this package's layer and PyTorch compute.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.files import output_files

TOPICS = ("bn",)

_MOST_EXAMPLES = 20
_LARGEST_EPSILON = 1.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.explain",
    description="Explains what a paper's equations compute, line by line, on a small batch. "
    "The exit status is 1 where a difference exceeds its limit.",
  )
  parser.add_argument("topic", metavar="TOPIC", help="bn: Batch Normalization")
  parser.add_argument(
    "--epsilon", type=float, default=1e-3, metavar="X", help="added to variances (default: 1e-3)"
  )
  parser.add_argument(
    "--examples", type=int, default=4, metavar="M", help="size of the mini-batches (default: 4)"
  )
  parser.add_argument(
    "--seed",
    type=entry_point.at_least(0),
    default=0,
    metavar="N",
    help="of the numbers (default: 0)",
  )
  parser.add_argument(
    "--plot", type=pathlib.Path, metavar="FILE.png", help="draw one feature's way there"
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints the explanation that the flags name."""
  _check(options)
  import jax

  jax.config.update("jax_platforms", "cpu")  # starts fast; these are a few float64 numbers
  from speedpaper_jax.explanations import batch_norm_parts, inputs, layout, references

  drawn = inputs.draw(options.examples, options.seed, options.epsilon)
  if options.plot is not None:
    from speedpaper_jax.explanations import batch_norm_plot

    batch_norm_plot.write(options.plot, drawn)
  print(
    f"Batch Normalization (Ioffe & Szegedy, arXiv 1502.03167), mini-batches of m = "
    f"{options.examples}, ε = {options.epsilon:g}\n\n"
    f"All numbers are float64. Each check shows its largest difference, relative to the largest\n"
    f"value where that exceeds 1, and is ok up to {layout.LIMIT:g}."
  )
  values = references.all_values(drawn)
  checks = []
  for part in batch_norm_parts.parts(drawn, values):
    print(f"\n{layout.render(part)}", flush=True)
    checks += part.checks
  failed = sum(not check.passed for check in checks)
  if failed:
    print(f"\n{failed} of {len(checks)} checks failed.")
    sys.exit(1)
  print(f"\nAll {len(checks)} checks are ok.")


def _check(options: argparse.Namespace) -> None:
  if options.topic not in TOPICS:
    raise UserError(
      f"There is no explanation of '{options.topic}'.{did_you_mean(options.topic, TOPICS)}"
    )
  if options.examples < 2:
    raise UserError(
      f"--examples={options.examples} is too few: a single example is its own mean, so that its "
      f"normalised value would always be zero; take at least 2."
    )
  if options.examples > _MOST_EXAMPLES:
    raise UserError(
      f"--examples={options.examples} are too many to read; take at most {_MOST_EXAMPLES}."
    )
  if not 0 <= options.epsilon <= _LARGEST_EPSILON:
    raise UserError(f"--epsilon={options.epsilon:g} is not between 0 and {_LARGEST_EPSILON:g}.")
  if options.plot is not None:
    if options.plot.suffix != ".png":
      raise UserError(f"'{options.plot}' is no name of a figure; end it in .png.")
    output_files.check(options.plot)


if __name__ == "__main__":
  entry_point.run(main, parse)
