"""Flags of the commands that may run on several hosts at once."""

import argparse

# None of them changes what a run computes.
NAMES = ("coordinator_address", "process_count", "process_index", "patience")


def add_to(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `NAMES`, as a group of their own."""
  group = parser.add_argument_group("in each of several processes")
  group.add_argument(
    "--coordinator_address",
    metavar="HOST:PORT",
    help="of process 0, in all processes; a TPU pod and Slurm say it themselves",
  )
  group.add_argument("--process_count", type=int, metavar="N", help="number of processes")
  group.add_argument("--process_index", type=int, metavar="N", help="which of them this is, from 0")
  group.add_argument(
    "--patience",
    type=float,
    default=300.0,
    metavar="SECONDS",
    help="seconds without a sign of life after which another process is given up, or this one "
    "stands still and ends (default: 300)",
  )
