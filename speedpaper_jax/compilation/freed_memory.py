"""Memory that has been freed goes back to the system."""

import ctypes


def give_back() -> None:
  """Returns what glibc keeps of freed memory; elsewhere it does nothing.

  Compiling takes gigabytes for seconds, and evaluations and checkpoints take copies, in several
  threads. glibc has an arena for each and returns only what lies free at an arena's end: the
  process would keep most of it, and grow with each program and in a long run. It takes some 20 ms.
  No library offers this.
  """
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:
    trim(0)
