"""Flags that evaluation and prediction share; absl takes a flag's name once in a process."""

from absl import flags

BATCH_SIZE = flags.DEFINE_integer(
  "batch_size",
  None,
  "Images at a time; the run's own in evaluation, else 32.",
  lower_bound=1,
  upper_bound=2**20,
)
JSON = flags.DEFINE_string("json", None, "File to write the result to as well.")
