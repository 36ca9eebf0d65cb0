"""A flag of the commands that train."""

import argparse

from speedpaper_jax.compilation import determinism


def add_to(parser: argparse.ArgumentParser) -> None:
  """Adds `--deterministic`."""
  parser.add_argument(
    "--deterministic",
    action="store_true",
    help="on GPUs the same bits at every start and after resuming, by operations that may be "
    "slower and algorithms that are not chosen for speed; CPUs and TPUs need no flag for that",
  )


def apply(options: argparse.Namespace) -> None:
  """Does what the flag says, before JAX looks for its devices.

  Raises:
    UserError: see `determinism.turn_on`.
  """
  if options.deterministic:
    determinism.turn_on()
