"""Trains with several processes on this machine's CPU, started again as a cluster would.

  python launch/local.py --processes=2 --devices=4 -- --config=configs/bn_inception.py --workdir=DIR

What follows `--` is what `python -m speedpaper_jax.main` takes. The processes meet on loopback;
each has `--devices` virtual devices. When one of them ends with the status "start me again", 75, or
is killed by a signal, the others are given `--grace` seconds to end by themselves, and all are
started again, `--restarts` times at most. Any other status ends the launcher with the same.
SIGTERM, Ctrl-C and the end of the terminal are passed on: the state is saved, and nothing is
started again.
"""

import argparse
import contextlib
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from typing import NoReturn

START_AGAIN = os.EX_TEMPFAIL
_LOOKS_EVERY = 0.05  # seconds
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(argv: Sequence[str]) -> int:
  """Returns the exit status of the training."""
  options = parse(argv)
  if not any(argument.startswith("--workdir") for argument in options.arguments):
    stop("Name the run's directory with --workdir=DIR, so that a new start finds its checkpoints.")
  if options.dry_run:
    for index in range(options.processes):
      print(shlex.join(command(options, index, "PORT")))
    return 0
  launcher = Launcher(options)
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
      signal.signal(number, launcher.ask_to_stop)
  return launcher.run()


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Reads the flags; `arguments` is what follows `--`."""
  parser = argparse.ArgumentParser(
    description=(__doc__ or "").partition("\n")[0], usage="%(prog)s [FLAGS] -- ARGUMENTS"
  )
  parser.add_argument("--processes", type=int, default=2, help="how many; default 2")
  parser.add_argument("--devices", type=int, default=1, help="of each process; default 1")
  parser.add_argument("--restarts", type=int, default=10, help="at most; default 10")
  parser.add_argument("--grace", type=float, default=10, help="seconds; default 10")
  parser.add_argument("--program", default="-m speedpaper_jax.main", help=argparse.SUPPRESS)
  parser.add_argument("--dry_run", action="store_true", help="print the commands, start nothing")
  own, separator, arguments = _split(argv)
  options = parser.parse_args(own)
  if not separator or not arguments:
    parser.error("give the arguments of the training after --")
  if options.processes < 1 or options.devices < 1:
    parser.error("--processes and --devices are at least 1")
  options.arguments = arguments
  return options


def _split(argv: Sequence[str]) -> tuple[Sequence[str], bool, Sequence[str]]:
  if "--" not in argv:
    return argv, False, []
  position = list(argv).index("--")
  return argv[:position], True, argv[position + 1 :]


def command(options: argparse.Namespace, index: int, port: object) -> list[str]:
  """What starts process `index`."""
  return [
    sys.executable,
    *shlex.split(options.program),
    f"--coordinator_address=127.0.0.1:{port}",
    f"--process_count={options.processes}",
    f"--process_index={index}",
    *options.arguments,
  ]


class Launcher:
  """The processes of one training, and those that take their place."""

  def __init__(self, options: argparse.Namespace) -> None:
    self._options = options
    self._running: list[subprocess.Popen[bytes]] = []
    self._asked: int | None = None  # the signal that asked the launcher to stop

  def run(self) -> int:
    """Starts all until they have finished; returns the exit status."""
    starts = 0
    while True:
      self._start()
      status, reason = self._wait()
      if status == 0:
        return 0
      if self._asked is not None:
        return 128 + self._asked if self._asked == signal.SIGINT else START_AGAIN
      if status not in (START_AGAIN, None):
        say(f"{reason}; this is not mended by starting again.")
        return status
      starts += 1
      if starts > self._options.restarts:
        say(f"{reason}; started again {self._options.restarts} times already.")
        return START_AGAIN
      say(f"{reason}; starting again ({starts} of at most {self._options.restarts}).")

  def ask_to_stop(self, number: int, frame: types.FrameType | None) -> None:
    """A signal handler: the processes save and end, and stay ended."""
    self._asked = number
    self._signal(signal.SIGTERM)

  def _start(self) -> None:
    port = _free_port()
    environment = {
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": str(self._options.devices),
      "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    self._running = [
      subprocess.Popen(
        command(self._options, index, port),
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for the launcher alone
      )
      for index in range(self._options.processes)
    ]
    pids = " ".join(str(process.pid) for process in self._running)
    say(f"started {len(self._running)} processes: {pids}")

  def _wait(self) -> tuple[int | None, str]:
    """Exit status of them all, None for a death by signal, and what happened, in words."""
    first_end: float | None = None
    reason, printed = "", set()
    status: int | None = 0
    while any(process.poll() is None for process in self._running):
      time.sleep(_LOOKS_EVERY)
      if first_end is None and any(process.poll() for process in self._running):
        first_end = time.monotonic()
      if first_end is not None and time.monotonic() > first_end + self._options.grace:
        self._signal(signal.SIGKILL)
    for index, process in enumerate(self._running):
      code = process.returncode
      if code and code not in printed:
        printed.add(code)
        reason += f"{', ' if reason else ''}process {index} {_describe(code)}"
    codes = [process.returncode for process in self._running]
    final = [code for code in codes if code > 0 and code != START_AGAIN and code < 128]
    if final:
      status = final[0]  # a mistake; the others only lost their partner
    elif any(codes):
      status = START_AGAIN if all(code in (0, START_AGAIN) for code in codes) else None
    return status, reason

  def _signal(self, number: int) -> None:
    for process in self._running:
      with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _describe(code: int) -> str:
  if code < 0:
    return f"was ended by {signal.Signals(-code).name}"
  return "asked to be started again" if code == START_AGAIN else f"ended with status {code}"


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def say(sentence: str) -> None:
  """Prints to standard error, as the launcher."""
  with contextlib.suppress(OSError):  # the terminal may be gone
    print(f"local: {sentence}", file=sys.stderr, flush=True)


def stop(sentence: str) -> NoReturn:
  """Ends with a mistake of the user."""
  say(f"error: {sentence}")
  sys.exit(1)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
