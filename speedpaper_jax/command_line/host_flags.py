"""Flags of the commands that may run on several hosts at once."""

from absl import flags

COORDINATOR_ADDRESS = flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT of process 0, in all processes; a TPU pod and Slurm say it themselves.",
)
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "Number of processes of this run.")
PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "Which of them this is, from 0.")
PATIENCE = flags.DEFINE_float(
  "patience",
  300,
  "Seconds without a sign of life after which another process is given up, or this one stands still"
  " and ends; of runs with several processes.",
)

# None of them changes what a run computes.
NAMES = tuple(flag.name for flag in (COORDINATOR_ADDRESS, PROCESS_COUNT, PROCESS_INDEX, PATIENCE))
