"""The same bits of the same program at every start, which GPUs give only where they are asked to.

Otherwise some of their sums are in the order in which threads come, and XLA measures at each start
anew which of several algorithms is the fastest. One flag of XLA's turns off both.
"""

import os
import sys

from speedpaper_jax.errors import UserError

_VARIABLE = "XLA_FLAGS"
_NAME = "--xla_gpu_deterministic_ops"
FLAG = f"{_NAME}=true"
_YES = ("", "1", "true")  # as XLA reads them, which takes the name alone for a yes


def is_on() -> bool:
  """Whether the programs of this process are such, be it by `turn_on` or by the environment."""
  return _value(os.environ.get(_VARIABLE, "")) in _YES


def turn_on() -> None:
  """Adds the flag to those that the environment has, for this process and those that it starts.

  Raises:
    UserError: the environment says the contrary, or JAX has read it already.
  """
  if is_on():
    return
  flags = with_flag(os.environ.get(_VARIABLE, ""))
  # No public name says it; where JAX has not been imported, it has read nothing.
  backends = sys.modules.get("jax._src.xla_bridge")
  if backends is not None and backends.backends_are_initialized():
    raise UserError(
      f"--deterministic comes too late, since JAX has its devices already; set {_VARIABLE}={FLAG} "
      f"before it looks for them."
    )
  os.environ[_VARIABLE] = flags


def with_flag(flags: str) -> str:
  """The value of XLA_FLAGS with the flag, after those that are there.

  Args:
    flags: the value without it.

  Raises:
    UserError: it has the contrary, or is the name of a file.
  """
  if flags.strip() and not flags.lstrip().startswith("-"):  # then XLA reads flags from that file
    raise UserError(
      f"--deterministic cannot add to {_VARIABLE}={flags}, which names a file; write the flags "
      f"themselves into {_VARIABLE}."
    )
  value = _value(flags)
  if value is None:
    return f"{flags} {FLAG}".strip()
  if value in _YES:
    return flags
  raise UserError(
    f"--deterministic is the contrary of {_NAME}={value} in {_VARIABLE}; leave one of them out."
  )


def _value(flags: str) -> str | None:
  """What the flags say last, in small letters, as XLA takes it; None where they do not name it."""
  values = [
    value.lower()
    for name, _, value in (flag.partition("=") for flag in flags.split())
    if name == _NAME
  ]
  return values[-1] if values else None
