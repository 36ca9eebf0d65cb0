"""The process keeps no memory that nothing needs any more."""

import ctypes
import pathlib
import re

import pytest

from speedpaper_jax.compilation import freed_memory

LIBC = ctypes.CDLL(None)
BLOCK = 64 * 1024  # below the size from which glibc asks the system for each block
BLOCKS = 1024


def resident():
  """Anonymous memory of this process, in bytes."""
  status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
  return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.skipif(not hasattr(LIBC, "malloc_trim"), reason="not glibc")
def test_what_lies_free_below_what_is_used_is_given_back():
  LIBC.malloc.restype = ctypes.c_void_p
  LIBC.free.argtypes = (ctypes.c_void_p,)
  blocks = [LIBC.malloc(BLOCK) for _ in range(BLOCKS)]
  for block in blocks:
    ctypes.memset(block, 1, BLOCK)
  for block in blocks[:-1]:
    LIBC.free(block)
  kept = resident()
  freed_memory.give_back()
  assert kept - resident() > BLOCK * BLOCKS * 3 // 4
  LIBC.free(blocks[-1])


def test_without_glibc_nothing_happens(monkeypatch):
  monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
  freed_memory.give_back()
