"""`python tests/tiny_evaluate.py …` is `python -m speedpaper_jax.evaluate …`, of tiny's network.

Each batch takes as long as `SECONDS_PER_STEP` says, so that there is time to interrupt, and its
answers are saved at once.
"""

import os
import time

import tiny

from speedpaper_jax import evaluate
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.inference import unfinished
from speedpaper_jax.models import registry


def add_slowly(add, seconds):
  """An `Unfinished.add` that takes its time."""

  def add_and_sleep(self, *arguments):
    add(self, *arguments)
    time.sleep(seconds)

  return add_and_sleep


def parse(arguments):
  """Leaves out the --workdir that the launcher asks for."""
  return evaluate.parse([each for each in arguments if not each.startswith("--workdir=")])


if __name__ == "__main__":
  registry.create = tiny.create
  if seconds := float(os.environ.get("SECONDS_PER_STEP", 0)):
    unfinished._SECONDS = 0
    unfinished.Unfinished.add = add_slowly(unfinished.Unfinished.add, seconds)
  entry_point.run(evaluate.main, parse)
