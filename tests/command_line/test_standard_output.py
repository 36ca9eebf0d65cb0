"""What commands print reaches any terminal or file; where it cannot, that is told, once."""

import io
import os
import signal
import subprocess
import sys

import pytest
from commands import ROOT

from speedpaper_jax.command_line.standard_output import StandardOutput
from speedpaper_jax.distributed.interrupts import StopSignal
from speedpaper_jax.errors import UserError


def encoded(text, encoding):
  written = io.BytesIO()
  output = StandardOutput(io.TextIOWrapper(written, encoding=encoding))
  print(text, file=output, flush=True)
  return written.getvalue()


@pytest.mark.parametrize(
  ("encoding", "expected"),
  [
    ("utf-8", "× σ² 猫 👩\n".encode()),
    ("ascii", rb"\xd7 \u03c3\xb2 \u732b \U0001f469" + b"\n"),
    ("latin-1", b"\xd7 \\u03c3\xb2 \\u732b \\U0001f469\n"),
    ("gbk", "× σ".encode("gbk") + rb"\xb2 " + "猫".encode("gbk") + b" \\U0001f469\n"),
  ],
)
def test_what_an_encoding_lacks_is_escaped(encoding, expected):
  assert encoded("× σ² 猫 👩", encoding) == expected


def test_control_characters_are_escaped_but_not_the_layout():
  assert encoded("\x1b[2J\ta\r", "utf-8") == b"\\x1b[2J\ta\r\n"


@pytest.fixture
def full():
  """A standard output without room."""
  with open("/dev/full", "w", encoding="utf-8") as file:
    yield StandardOutput(file)


@pytest.fixture
def unread():
  """One that nobody reads."""
  reader, writer = os.pipe()
  os.close(reader)
  with os.fdopen(writer, "w", encoding="utf-8") as file:
    yield StandardOutput(file)


def test_no_room_is_an_error(full):
  with pytest.raises(UserError, match="Standard output cannot be written: No space left on device"):
    print("a", file=full, flush=True)
  print("b", file=full, flush=True)  # such as at the end of the process


def test_a_run_goes_on_without_room_and_says_so_once(full, capsys):
  full.go_on()
  for line in "ab":
    print(line, file=full, flush=True)
  assert capsys.readouterr().err == (
    "warning: standard output cannot be written (No space left on device); the run goes on "
    "without it.\n"
  )


def test_a_reader_that_has_left_ends_a_command(unread):
  with pytest.raises(BrokenPipeError):
    print("a", file=unread, flush=True)


def test_a_reader_that_has_left_stops_a_run_that_saves_its_state(unread):
  unread.go_on()
  with StopSignal() as stop:
    print("a", file=unread, flush=True)
    print("b", file=unread, flush=True)
    interrupted = stop.requested("step 3")
  assert str(interrupted) == "Stopped by SIGPIPE after step 3."
  assert interrupted.exit_status == 128 + signal.SIGPIPE


PROGRAM = """
import time
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError

def main(options):
  time.sleep(float(options[2]))
  print(options[1])
  if options[1] == "mistake":
    raise UserError("It is wrong.")

entry_point.run(main, lambda argv: argv)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ("redirection", "word", "status", "message"),
  [
    (">&-", "result", 1, "error: Standard output cannot be written: Bad file descriptor.\n"),
    (">/dev/full", "result", 1, "error: Standard output cannot be written: No space left on"),
    ("", "mistake", 1, "error: It is wrong.\n"),
    ("2>&-", "mistake", 1, ""),
    ("2>/dev/full", "mistake", 1, ""),
    (">&- 2>&- <&-", "result", 1, ""),
    ("| true", "result", 141, ""),
  ],
)
def test_the_end_of_a_command(tmp_path, redirection, word, status, message):
  program = tmp_path / "program.py"
  program.write_text(PROGRAM)
  seconds = 1 if redirection.startswith("|") else 0  # until nobody is left to read
  shell = f"'{sys.executable}' '{program}' {word} {seconds} {redirection}; exit $PIPESTATUS"
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  ended = subprocess.run(
    ["bash", "-c", shell], env=environment, capture_output=True, encoding="utf-8", check=False
  )
  assert ended.returncode == status
  assert ended.stderr.startswith(message)
  assert ended.stderr.count("\n") == bool(message)
