"""What all commands share: flags, errors as one sentence, JAX's settings."""

import os
import pathlib
import sys
from collections.abc import Callable

from absl import app, flags, logging

from speedpaper_jax.errors import UserError


def run(main: Callable[[list[str]], None], parse: Callable[[list[str]], list[str]]) -> None:
  """Runs a command and ends the process.

  A `UserError` is printed as `error: …` and the status is 1; after an interruption it is 128 and
  the signal's number, as a shell has it.
  """
  from speedpaper_jax.interrupts import Interrupted

  logging.set_verbosity(logging.ERROR)  # Orbax tells of each of its steps otherwise
  try:
    app.run(main, flags_parser=parse)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(1)
  except Interrupted as interrupted:
    print(f"{interrupted} The same command with the same --workdir continues.", file=sys.stderr)
    sys.exit(interrupted.exit_status)
  except KeyboardInterrupt:
    print("Interrupted; nothing was lost.", file=sys.stderr)
    sys.exit(130)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a bad one becomes a UserError."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    raise UserError(str(error)) from error


def set_up_jax() -> None:
  """Keeps compiled programs between processes; `JAX_COMPILATION_CACHE_DIR` names another place."""
  import jax

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = pathlib.Path(cache).expanduser() / "speedpaper_jax" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(directory))
