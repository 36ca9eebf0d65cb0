"""The cores of this computer, of which each decodes."""

import os


def usable() -> int:
  """Cores that this process may use; a scheduler such as Slurm may give it fewer than there are."""
  # Python has it by itself from 3.13 on.
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
