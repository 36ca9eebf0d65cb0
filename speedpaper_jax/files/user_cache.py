"""Where the user's caches are: ~/.cache/speedpaper_jax, or below XDG_CACHE_HOME."""

import os
import pathlib


def path(name: str) -> pathlib.Path:
  """Of one of the package's caches; it need not exist.

  Raises:
    RuntimeError: nobody knows where the user is at home.
  """
  cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  return cache / "speedpaper_jax" / name
