"""A bar on a terminal, a line a minute elsewhere."""

import time

import pytest

from speedpaper_jax.command_line.progress_bar import ProgressBar, ProgressBars


@pytest.fixture
def clock(monkeypatch):
  """Seconds, to be set."""
  now = [1000.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])

  def tick(seconds):
    now[0] += seconds

  return tick


def test_a_line_a_minute_where_there_is_no_terminal(clock, capsys):
  bar = ProgressBar(50_000, "images", "inception_v4", done=10_000)
  for done in range(11_000, 14_001, 1_000):
    clock(25)
    bar.update(done)
  bar.close()
  # 3,000 images in 75 seconds; 37,000 are left.
  assert capsys.readouterr().err == "inception_v4: 13,000 of 50,000 images, ETA 15:25\n"


def test_short_work_shows_nothing(clock, capsys):
  bar = ProgressBar(10, "images")
  bar.update(10)
  bar.close()
  assert capsys.readouterr().err == ""


def test_one_for_each_of_several(clock, capsys):
  bars = ProgressBars(100, "images")
  bars.update("a", 0, "a")
  clock(61)
  bars.update("a", 50, "a")
  bars.close("a")
  clock(61)
  bars.update("b", 0)
  bars.close("b")
  bars.close("c")  # of which nothing was heard
  assert capsys.readouterr().err == "a: 50 of 100 images, ETA 01:01\n"
