"""With what a run was made: the command, the versions, the machine; who and where is left out."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
from collections.abc import Collection, Sequence

import speedpaper_jax
from speedpaper_jax.data import cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def command(argv: Sequence[str], without: Collection[str] = ()) -> str:
  """The shell command that does a run of `main.py` again.

  Args:
    argv: as in `sys.argv`; the first is left out, since it is a path of this machine.
    without: names of flags that are left out with their values.
  """
  kept = []
  arguments = iter(argv[1:])
  for argument in arguments:
    flag, equals, _ = argument.partition("=")
    if not flag.startswith("-") or flag.lstrip("-") not in without:
      kept.append(argument)
    elif not equals:
      next(arguments)  # its value
  return " ".join(["python -m speedpaper_jax.main", *map(quote, kept)])


def versions() -> dict[str, str]:
  """Of Python, of the packages that decide over numbers, and of this one."""
  return {
    "python": platform.python_version(),
    **{package: importlib.metadata.version(package) for package in _PACKAGES},
    "speedpaper_jax": speedpaper_jax.__version__,
  }


def machine() -> dict[str, str]:
  """JAX's devices, and this process's computer: processor, cores, memory, system, in words."""
  import jax

  memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
  return {
    "devices": f"{jax.device_count()} × {jax.devices()[0].device_kind}{processes}",
    "processor": _processor(),
    "cores": f"{cores.usable()}",
    "memory": f"{memory / 2**30:.1f} GiB",
    "system": _system(),
  }


def now() -> str:
  """UTC, as ISO 8601, to the second."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def quote(argument: str) -> str:
  """An argument as a shell takes it; of a flag only the value is quoted, as people write it."""
  flag, equals, value = argument.partition("=")
  if argument.startswith("-") and equals:
    return f"{shlex.quote(flag)}={shlex.quote(value)}"
  return shlex.quote(argument)


def _processor() -> str:
  if _CPU_INFO.exists():
    for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
      name, _, value = line.partition(":")
      if name.strip() == "model name":
        return value.strip()
  return platform.processor() or platform.machine()


def _system() -> str:
  try:
    name = platform.freedesktop_os_release()["PRETTY_NAME"]
  except OSError:  # not Linux
    name = f"{platform.system()} {platform.release()}"
  return f"{name}, {platform.machine()}"
