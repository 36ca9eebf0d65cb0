"""Requests to stop end a run in good order."""

import os
import signal
import time

import pytest
from commands import TINY, finish, flags, run, start, wait_for_step

from speedpaper_jax.distributed.interrupts import StopSignal, reader_left

pytestmark = pytest.mark.usefixtures("without_nohup")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted(number):
  with StopSignal() as stop:
    assert stop.number is None
    os.kill(os.getpid(), number)
    assert stop.number == number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_has_its_usual_effect(number):
  with StopSignal():
    os.kill(os.getpid(), number)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_a_terminal_is_told_more_than_once(number):
  """By the shell, by the system, and by systemd after its SIGTERM."""
  with StopSignal() as stop:
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.number == number


def test_the_end_of_a_terminal_is_ignored_where_nohup_has_it_so():
  previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with StopSignal() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert stop.number is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, previous)


def test_a_reader_that_leaves_stops_what_would_save_its_state():
  assert not reader_left()
  with StopSignal() as stop:
    assert reader_left()
    assert stop.number == signal.SIGPIPE
  assert not reader_left()


def test_a_reader_that_leaves_after_a_signal_changes_nothing():
  with StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert reader_left()
    assert stop.number == signal.SIGTERM


def test_former_handlers_come_back():
  numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
  before = list(map(signal.getsignal, numbers))
  with StopSignal():
    os.kill(os.getpid(), signal.SIGTERM)
  assert list(map(signal.getsignal, numbers)) == before


@pytest.mark.parametrize(
  ("number", "status"),
  [
    pytest.param(signal.SIGINT, 130, id="a_person"),
    pytest.param(signal.SIGTERM, 75, id="a_cluster"),
    pytest.param(signal.SIGHUP, 75, id="a_lost_terminal"),
  ],
)
def test_message_and_status(number, status):
  """A launcher starts again what it has stopped, and leaves alone what a person has."""
  with StopSignal() as stop:
    assert stop.requested("step 6") is None
    os.kill(os.getpid(), number)
    interrupted = stop.requested("step 7")
  assert str(interrupted) == f"Stopped by {number.name} after step 7."
  assert interrupted.exit_status == status


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ends_with"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_saves_and_ends_and_continues(scratch, tmp_path, number, ends_with):
  command = (*TINY, f"--workdir={tmp_path}", *flags(checkpoint_every="0 steps"))
  process = start(scratch, *command, seconds_per_step=1)
  wait_for_step(process, 2)
  process.send_signal(number)
  status, _, errors = finish(process)
  assert status == ends_with
  (saved,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
  assert 2 < saved < 12
  assert errors == (
    f"Stopped by {number.name} after step {saved}. The same command with the same --workdir "
    "continues.\n"
  )
  assert not (tmp_path / "summary.json").exists()

  output = run(scratch, *command, seconds_per_step=0)
  assert f"resuming after step {saved}\nstep {saved + 1:2d}/12" in output
  assert (tmp_path / "summary.json").exists()


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(scratch, tmp_path):
  process = start(scratch, *TINY, f"--workdir={tmp_path}", *flags(), seconds_per_step=100)
  wait_for_step(process, 1)
  began = time.monotonic()
  while process.poll() is None and time.monotonic() < began + 50:
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
  assert process.poll() == -signal.SIGTERM
  finish(process)


@pytest.mark.slow
def test_before_the_first_step(scratch, tmp_path):
  process = start(scratch, *TINY, f"--workdir={tmp_path}", *flags())
  assert process.stdout.readline() == f"workdir {tmp_path}\n"
  process.send_signal(signal.SIGINT)
  status, output, errors = finish(process)
  assert status == 130
  assert errors == "Interrupted; nothing was lost.\n"
  assert "step" not in output
