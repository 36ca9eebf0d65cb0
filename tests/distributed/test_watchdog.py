"""A loop that stands still is noticed; one that goes on is left alone."""

import queue

import pytest

from speedpaper_jax.distributed.watchdog import Watchdog

LONG = 1000.0
MINUTE = 60  # seconds that a test waits for what must happen


@pytest.fixture
def ended():
  """The statuses with which the process would have ended."""
  return queue.Queue()


def watch(ended, **options):
  return Watchdog(**{"patience": LONG, "data_stall_seconds": LONG, "end": ended.put, **options})


def test_a_loop_that_stands_still_ends_with_the_status_start_me_again(ended, capsys):
  watchdog = watch(ended, patience=0.1)
  watchdog.doing("in step 7, in which all processes wait for each other")
  assert ended.get(timeout=MINUTE) == 75
  watchdog.close()
  told = capsys.readouterr().err
  assert told.startswith("Nothing has happened for ")
  assert "in step 7, in which all processes wait for each other. This process ends" in told
  assert "--patience" in told


def test_a_stalled_data_pipeline_is_named_once(ended, capsys):
  watchdog = watch(ended, patience=2.5, data_stall_seconds=0.1)
  watchdog.doing("waiting for the images of step 3", for_data=True)
  ended.get(timeout=MINUTE)
  watchdog.close()
  told = capsys.readouterr().err
  assert told.count("warning: the data pipeline is stalled") == 1
  assert "waiting for the images of step 3" in told
  assert "config.data.dir" in told


def test_other_waits_are_not_the_datas(ended, capsys):
  watchdog = watch(ended, patience=0.1, data_stall_seconds=0.1)
  watchdog.doing("saving the checkpoint of step 3")
  ended.get(timeout=MINUTE)
  watchdog.close()
  assert "stalled" not in capsys.readouterr().err


@pytest.mark.parametrize("rests", ["from the start", "after work", "without a limit"])
def test_what_may_take_any_time_is_not_ended(ended, rests):
  watchdog = watch(ended, patience=None if rests == "without a limit" else 0.1)
  if rests != "from the start":
    watchdog.doing("in step 1")
  if rests == "after work":
    watchdog.pause()
  with pytest.raises(queue.Empty):
    ended.get(timeout=1.5)
  watchdog.close()


def test_each_activity_has_its_own_time(ended):
  watchdog = watch(ended, patience=1.0)
  for step in range(8):
    watchdog.doing(f"in step {step}")
    with pytest.raises(queue.Empty):
      ended.get(timeout=0.25)
  watchdog.close()
