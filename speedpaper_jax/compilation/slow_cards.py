"""Cards for which XLA compiles for minutes, told beforehand, so that nobody takes it for a halt."""

import re

import jax
from jaxlib import version

from speedpaper_jax import errors
from speedpaper_jax.compilation import cache

# A report has one to four minutes for a program of one operation, a third of a second elsewhere,
# with each jaxlib that was tried, from 0.6.2 to a preview of 0.11.0, for CUDA 12.
_CARD = "RTX PRO 6000 Blackwell"
_LAST_JAXLIB = (0, 11, 0)
_CUDA = 12


def warn(device: jax.Device) -> None:
  """Says once that compiling may take minutes, where that was reported of card and versions."""
  if not (
    _CARD in device.device_kind
    and version.__version_info__ <= _LAST_JAXLIB
    and _cuda_of(device.client.platform_version) == _CUDA
  ):
    return
  directory = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
  way_out = (
    f"it is done once, since {directory} keeps the programs for later starts"
    if directory
    else f"name a directory with {cache.VARIABLE}, which keeps the programs for later starts"
  )
  errors.warn_once(
    f"compiling may take minutes, as was reported of {device.device_kind} with jaxlib "
    f"{version.__version__} for CUDA {_CUDA}; {way_out}."
  )


def _cuda_of(platform_version: str) -> int | None:
  """Its major version, 12 of "cuda 12090", as JAX's clients say it; None of other platforms."""
  found = re.search(r"\bcuda (\d+)\d{3}\b", platform_version)
  return int(found[1]) if found else None
