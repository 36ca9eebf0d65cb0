"""`python tests/tiny_evaluate.py …` is `python -m speedpaper_jax.evaluate …`, of tiny's network."""

import tiny

from speedpaper_jax import evaluate
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.models import registry


def parse(arguments):
  """Leaves out the --workdir that the launcher asks for."""
  return evaluate.parse([each for each in arguments if not each.startswith("--workdir=")])


if __name__ == "__main__":
  registry.create = tiny.create
  entry_point.run(evaluate.main, parse)
