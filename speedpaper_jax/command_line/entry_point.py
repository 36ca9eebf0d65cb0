"""What all commands share: flags, errors as one sentence, JAX's settings."""

import argparse
import contextlib
import errno
import gc
import itertools
import logging as logging_of_libraries
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import logging

from speedpaper_jax import errors
from speedpaper_jax.command_line import extras, standard_output
from speedpaper_jax.compilation import cache
from speedpaper_jax.distributed.interrupts import START_AGAIN, Interrupted
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import addresses

_SECONDS_FOR_OTHERS = 2.0

# Errors of the operating system that may come anywhere, and are no fault of the program.
_OF_SURROUNDINGS = {
  errno.EACCES,
  errno.EDQUOT,
  errno.EIO,
  errno.ELOOP,
  errno.EMFILE,
  errno.ENAMETOOLONG,
  errno.ENOSPC,
  errno.EPERM,
  errno.EROFS,
  errno.ESTALE,
}


def run(
  main: Callable[[argparse.Namespace], None], parse: Callable[[Sequence[str]], argparse.Namespace]
) -> None:
  """Runs a command, `main(parse(sys.argv))`; where it fails, ends the process.

  A `UserError` is printed as `error: …` and the status is 1. After Ctrl-C it is 130, as a shell has
  it. It is `interrupts.START_AGAIN` where the same command would go on: after SIGTERM or the end of
  the terminal, where training saves its state, and when another process of the run is lost. A
  reader that closes the output, as `| head` does, ends the command without a word; training saves
  its state before.
  """
  standard_output.install()
  collect_garbage_less_often()
  # Libraries log each of their steps, and errors twice: Orbax by absl, others by Python's logging.
  logging.set_verbosity(logging.FATAL)
  logging_of_libraries.getLogger().setLevel(logging_of_libraries.CRITICAL)
  # Matplotlib logs that it has a temporary directory where the user's cannot be written.
  logging_of_libraries.getLogger("matplotlib").setLevel(logging_of_libraries.ERROR)
  sys.unraisablehook = _print_unraisable
  signal.signal(signal.SIGINT, _leave_at_once)
  try:
    try:
      with extras.named():
        main(parse(sys.argv))
    except SystemExit:  # --help, or a check that fails
      sys.stdout.flush()
      raise
    sys.stdout.flush()
    gc.freeze()  # or Python would take a second to look once more through all that there is
  except UserError as error:
    errors.inform(f"error: {error}")
    if _is_one_of_several():
      # Process 0 takes with it what the others need to report the same error.
      time.sleep(_SECONDS_FOR_OTHERS)
    _leave(1)
  except Interrupted as interrupted:
    _part()
    _leave(interrupted.exit_status, f"{interrupted} {interrupted.continues}")
  except BrokenPipeError:
    _leave(128 + signal.SIGPIPE)
  except OSError as error:
    if error.errno not in _OF_SURROUNDINGS:
      raise
    _leave(1, f"error: {_in_words(error)}.")
  except (AssertionError, RuntimeError) as error:
    if (reason := _why_no_devices()) is not None:
      _leave(1, f"error: {reason}")
    if not _has_lost_another(error):
      raise
    reason = str(error).strip().splitlines()[0]
    _leave(START_AGAIN, f"Another process was lost ({reason:.300}). Start all of them again.")


def collect_garbage_less_often() -> None:
  """Of this process; tracing makes so many objects that it would take a sixth longer otherwise."""
  gc.set_threshold(50_000, 20, 50)


def _in_words(error: OSError) -> str:
  if error.filename is None:
    return f"The system refuses: {error.strerror}"
  return f"'{os.fsdecode(error.filename)}' cannot be used: {error.strerror}"


def _print_unraisable(unraisable: Any) -> None:
  """As usual, but for those of writes that TensorStore gives up once another one has failed."""
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _leave(status: int, message: str | None = None) -> NoReturn:
  """Ends the process at once; `sys.exit` would wait for a thread that compiles a program."""
  if message is not None:
    errors.inform(message)
    with contextlib.suppress(UserError, BrokenPipeError):
      sys.stdout.flush()
  os._exit(status)


def _leave_at_once(number: int, frame: types.FrameType | None) -> None:
  """Ctrl-C where there is nothing to save.

  A `KeyboardInterrupt` would be lost where Python cannot raise, as in the callback of a weak
  reference; a print might be in the way of another.
  """
  with contextlib.suppress(OSError):
    os.write(2, b"Interrupted; nothing was lost.\n")
  os._exit(128 + number)


class ArgumentParser(argparse.ArgumentParser):
  """Argparse's, with mistakes as UserErrors; flags are named in full."""

  def __init__(self, **settings: Any) -> None:
    """Takes what argparse's takes, by name."""
    super().__init__(**settings, allow_abbrev=False)

  def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
    """Reads a command line.

    Args:
      arguments: those after the name of the program; flags may stand anywhere among them.

    Raises:
      UserError: a flag is unknown, a value is not valid, or an argument is missing or too many.
    """
    options, left = self.parse_known(arguments)
    if left:
      takes_others = self._get_positional_actions()
      wrong = "one argument too many" if takes_others else "no flag; flags begin with --"
      self.error(f"'{left[0]}' is {wrong}")
    return options

  def parse_known(
    self, arguments: Sequence[str], prefixes: tuple[str, ...] = ()
  ) -> tuple[argparse.Namespace, list[str]]:
    """As `parse`, but leaves what is too much to the caller.

    Args:
      arguments: those after the name of the program.
      prefixes: that flags may begin with which are left to the caller, too, with their values.

    Returns:
      The options, and the arguments that are left.

    Raises:
      UserError: a flag is unknown, a value is not valid, or an argument is missing.
    """
    for argument in arguments:
      addresses.refuse(argument.partition("=")[2] if argument.startswith("--") else argument)
    # At first, since argparse reports a required flag that is missing before one that is mistyped.
    for argument in itertools.takewhile(lambda argument: argument != "--", arguments):
      if _begins_as_flag(argument) and not argument.startswith(prefixes):
        self._check_flag(argument.partition("=")[0])
    return self.parse_known_intermixed_args(arguments)

  def _check_flag(self, name: str) -> None:
    valid = self._option_string_actions
    if name not in valid:
      flags = [flag for flag in valid if flag.startswith("--")]
      raise UserError(f"There is no flag '{name}'.{errors.did_you_mean(name, flags)}")

  def error(self, message: str) -> NoReturn:
    """Called with what is wrong."""
    raise UserError(f"{message}; see --help.")


def _begins_as_flag(argument: str) -> bool:
  """Whether it begins with a dash, but is neither a number nor a dash alone."""
  try:
    float(argument)
  except ValueError:
    return argument.startswith("-") and argument != "-"
  return False


def at_least(minimum: int, at_most: int = 2**32 - 1) -> Callable[[str], int]:
  """A `type` of argparse's: whole numbers from `minimum` to `at_most`."""

  def number(text: str) -> int:
    if int(text) < minimum:
      raise argparse.ArgumentTypeError(f"{text} is below {minimum}")
    if int(text) > at_most:
      raise argparse.ArgumentTypeError(f"{text} is above {at_most:,}")
    return int(text)

  return number


def set_up_jax() -> None:
  """Keeps compiled programs between processes; `JAX_COMPILATION_CACHE_DIR` names another place."""
  cache.set_up()


def join_hosts(options: argparse.Namespace) -> None:
  """Joins the other processes of the run, as the options or the cluster say.

  Of several, process 0 alone prints to standard output; to standard error all do, by number.

  Args:
    options: of a command that has `host_flags`.

  Raises:
    UserError: the flags make no sense, or the others cannot be reached.
  """
  import jax

  from speedpaper_jax.distributed import hosts

  hosts.initialize(
    options.coordinator_address,
    options.process_count,
    options.process_index,
    options.patience,
  )
  if _is_one_of_several():
    errors.set_process(jax.process_index())
    # Libraries that join processes print to descriptor 1; that goes to standard error.
    sys.stdout.flush()
    ours = os.dup(1) if hosts.is_main() else os.open(os.devnull, os.O_WRONLY)
    os.dup2(2, 1)
    standard_output.send_to(ours)


def _is_one_of_several() -> bool:
  # Not imported here: most mistakes are reported before JAX is, without delay.
  jax = sys.modules.get("jax")
  return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def _part() -> None:
  if _is_one_of_several():
    from speedpaper_jax.distributed import hosts

    hosts.leave()


def _why_no_devices() -> str | None:
  """The message where JAX fails since it has no device to compute on; None where it has some."""
  jax = sys.modules.get("jax")
  if jax is None:
    return None
  try:
    jax.devices()
  except (AssertionError, RuntimeError) as error:  # the former without a word, where no GPU is
    if platforms := os.environ.get("JAX_PLATFORMS"):
      reason = str(error).partition(" (set JAX_PLATFORMS")[0].rstrip(".") or "there is none"
      return (
        f"JAX cannot use what JAX_PLATFORMS={platforms} names ({reason:.300}); leave it out, or "
        f"set it to cpu."
      )
    return f"JAX cannot use its devices ({error!s:.300}); JAX_PLATFORMS=cpu does without them."
  return None


def _has_lost_another(error: BaseException) -> bool:
  if not _is_one_of_several():
    return False
  from speedpaper_jax.distributed import hosts

  return hosts.has_lost_another(error)
