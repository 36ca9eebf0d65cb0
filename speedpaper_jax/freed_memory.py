"""Memory that has been freed goes back to the system."""

import ctypes


def give_back() -> None:
  """Returns what glibc keeps of freed memory; elsewhere it does nothing.

  Compiling takes gigabytes for seconds, in several threads. glibc has an arena for each and returns
  only what lies free at an arena's end, so that the process would keep most of them; with every
  program that is compiled it would keep more. No library offers this.
  """
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:
    trim(0)
