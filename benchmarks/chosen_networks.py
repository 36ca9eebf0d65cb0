"""The networks that a benchmark is of, on its command line."""

from collections.abc import Sequence

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.papers.networks import NETWORKS


def parser(module: str, description: str, turns: int) -> entry_point.ArgumentParser:
  """Of `names`, `batch_size` and `turns`.

  Args:
    module: of the benchmark, in this package.
    description: what it does.
    turns: of each side, where none are named.
  """
  made = entry_point.ArgumentParser(prog=f"python -m benchmarks.{module}", description=description)
  made.add_argument(
    "names", nargs="*", metavar="NAME", help="networks (default: all those of ImageNet)"
  )
  made.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    default=8,
    metavar="N",
    help="images at a time (default: 8)",
  )
  made.add_argument(
    "--turns",
    type=entry_point.at_least(1),
    default=turns,
    metavar="N",
    help=f"turns of each (default: {turns})",
  )
  return made


def check(names: Sequence[str]) -> list[str]:
  """The networks of these names; without any, those of ImageNet.

  Raises:
    UserError: there is no such network.
  """
  for name in names:
    if name not in NETWORKS:
      raise UserError(f"There is no network '{name}'.{did_you_mean(name, NETWORKS)}")
  return list(names) or [each for each in NETWORKS if each != "small_inception"]
