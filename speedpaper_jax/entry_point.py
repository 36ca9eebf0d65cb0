"""What all commands share: flags, errors as one sentence, JAX's settings."""

import argparse
import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

from speedpaper_jax.errors import UserError
from speedpaper_jax.interrupts import Interrupted


def run(main: Callable[[Any], None], parse: Callable[[list[str]], Any]) -> None:
  """Runs a command, `main(parse(sys.argv))`; where it fails, ends the process.

  A `UserError` is printed as `error: …` and the status is 1; after an interruption it is 128 and
  the signal's number, as a shell has it. A reader that closes the output, as `| head` does, ends
  the command without a word.
  """
  logging.set_verbosity(logging.ERROR)  # Orbax tells of each of its steps otherwise
  signal.signal(signal.SIGINT, _leave_at_once)

  def parse_arguments(argv: list[str]) -> Any:
    options = parse(argv)
    if not flags.FLAGS.is_parsed():  # absl asks for it, of a command that has argparse's flags too
      flags.FLAGS(argv[:1])
    return options

  try:
    app.run(main, flags_parser=parse_arguments)
  except UserError as error:
    _leave(1, f"error: {error}")
  except Interrupted as interrupted:
    message = f"{interrupted} The same command with the same --workdir continues."
    _leave(interrupted.exit_status, message)
  except BrokenPipeError:
    _leave(128 + signal.SIGPIPE)


def _leave(status: int, message: str | None = None) -> NoReturn:
  """Ends the process at once; `sys.exit` would wait for a thread that compiles a program."""
  if message is not None:
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
  os._exit(status)


def _leave_at_once(number: int, frame: types.FrameType | None) -> None:
  """Ctrl-C where there is nothing to save.

  A `KeyboardInterrupt` would be lost where Python cannot raise, as in the callback of a weak
  reference; a print might be in the way of another.
  """
  os.write(2, b"Interrupted; nothing was lost.\n")
  os._exit(128 + number)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a bad one becomes a UserError."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    raise UserError(str(error)) from error


class ArgumentParser(argparse.ArgumentParser):
  """Argparse's, with mistakes as UserErrors."""

  def error(self, message: str) -> NoReturn:
    """Called with what is wrong."""
    raise UserError(f"{message}; see --help.")


def at_least(minimum: int) -> Callable[[str], int]:
  """A `type` of argparse's: whole numbers from `minimum` on."""

  def number(text: str) -> int:
    if int(text) < minimum:
      raise argparse.ArgumentTypeError(f"{text} is below {minimum}")
    return int(text)

  return number


def set_up_jax() -> None:
  """Keeps compiled programs between processes; `JAX_COMPILATION_CACHE_DIR` names another place."""
  import jax

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = pathlib.Path(cache).expanduser() / "speedpaper_jax" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(directory))
