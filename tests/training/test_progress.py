"""What a run shows on a terminal and elsewhere, and the events for TensorBoard."""

import contextlib
import io
import os
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from speedpaper_jax.errors import UserError
from speedpaper_jax.papers.curves import Curve
from speedpaper_jax.papers.expected_accuracies import Expectation
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training.progress import (
  EventWriter,
  Progress,
  format_evaluation,
  format_seconds,
)

TRAIN = {
  "loss": 1.5,
  "top1": 0.25,
  "images_per_second": 123.4,
  "step_seconds": 0.2,
  "data_wait_seconds": 0.001,
  "left_out": 0,
}
EVAL = {"loss": 0.0712, "top1": 0.983, "top5": 1.0, "count": 360}


class Terminal(io.StringIO):
  def isatty(self):
    return True

  def fileno(self):
    return 1


@pytest.fixture
def terminal(monkeypatch):
  """A function that puts a terminal of some size in place of standard output."""

  def make(*size):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(os, "get_terminal_size", lambda fileno: os.terminal_size(size))
    return terminal

  return make


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path)


def show(directory, first_step=0):
  """Two steps out of 100, and an evaluation."""
  progress = Progress(directory, first_step, 100, epoch=lambda step: step / 10)
  for step in (first_step + 1, first_step + 2):
    progress.advance()
    progress.train(step, TRAIN, eta_seconds=83)
  progress.evaluation(first_step + 2, EVAL)
  progress.close()


def scalars(directory, tag):
  events = EventAccumulator(str(directory.tensorboard))
  events.Reload()
  return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


class TestWorkdirThatCannotBeWritten:
  def test_is_told_at_the_start(self, directory):
    directory.tensorboard.write_text("a file in the place of the directory")
    with pytest.raises(UserError, match=r"The workdir '.*' cannot be written: File exists\."):
      show(directory)

  def test_is_told_later(self, directory):
    (directory.path / "metrics.jsonl").mkdir()
    with contextlib.closing(Progress(directory, 0, 100, epoch=lambda step: step / 10)) as progress:
      message = r"The workdir '.*' cannot be written: Is a directory\."
      with pytest.raises(UserError, match=message):
        progress.train(1, TRAIN, eta_seconds=83)


def test_another_process_records(directory, capsys):
  show(None)
  assert capsys.readouterr().out.count("\n") == 3
  assert not list(directory.path.iterdir())


def test_plain_lines_when_piped(directory, capsys):
  show(directory)
  assert capsys.readouterr().out.splitlines() == [
    "step   1/100  epoch 0.1  loss 1.5000  top1 25.0%  123 images/s  ETA 01:23",
    "step   2/100  epoch 0.2  loss 1.5000  top1 25.0%  123 images/s  ETA 01:23",
    "step 2  evaluation: top1 98.30%  top5 100.00%  loss 0.0712  (360 images)",
  ]


def test_images_that_were_left_out_are_counted(tmp_path, capsys):
  progress = Progress(RunDirectory(tmp_path), 0, 100, lambda step: step / 20)
  progress.train(1, {**TRAIN, "left_out": 1200}, eta_seconds=83)
  progress.close()
  assert "  123 images/s  1,200 images left out  ETA 01:23\n" in capsys.readouterr().out


def test_plain_lines_on_a_terminal_without_a_size(directory, terminal):
  terminal = terminal(110, 0)
  show(directory)
  assert terminal.getvalue().startswith("step   1/100  epoch 0.1")


def test_a_bar_on_a_terminal(directory, terminal):
  terminal = terminal(80, 24)
  show(directory, first_step=40)
  drawn = terminal.getvalue().split("\r")
  assert "40% |" in drawn[1]
  last = drawn[-1]
  assert "42/100" in last
  assert "loss 1.5000  top1 25.0%  123 images/s  ETA 01:23" in last
  assert "step 42  evaluation: top1 98.30%" in terminal.getvalue()


def test_metrics_are_recorded(directory):
  show(directory)
  assert directory.metrics() == [
    {"step": 1, "split": "train", **TRAIN},
    {"step": 2, "split": "train", **TRAIN},
    {"step": 2, "split": "eval", **EVAL},
  ]


class TestExpected:
  """A line from 60 % at epoch 20 to 80 % at epoch 40, ten steps an epoch."""

  EXPECTED = Expectation(Curve(np.array([20.0, 40.0]), np.array([0.6, 0.8])), "Figure 1")

  def lines(self, capsys, *evaluations):
    progress = Progress(None, 0, 1000, lambda step: step / 10, self.EXPECTED)
    for step, top1 in evaluations:
      progress.evaluation(step, {**EVAL, "top1": top1})
    progress.close()
    return capsys.readouterr().out.splitlines()

  def test_stands_beside_an_evaluation(self, capsys):
    first, below, above = self.lines(capsys, (300, 0.6952), (350, 0.7601))
    assert first == "expected, from epoch 20 to 40: Figure 1"
    assert below == (
      "step 300  evaluation: top1 69.52%  top5 100.00%  loss 0.0712  (360 images)  "
      "expected at epoch 30.0: 70.00%, this is 0.48% below"
    )
    assert above.endswith("  expected at epoch 35.0: 75.00%, this is 1.01% above")

  def test_where_nothing_was_published_nothing_is_said(self, capsys):
    _, *evaluations = self.lines(capsys, (100, 0.5), (500, 0.9))
    assert all(line.endswith("(360 images)") for line in evaluations)


class TestEvents:
  def test_tensorboard_reads_them(self, directory):
    show(directory)
    assert scalars(directory, "train/loss") == [(1, 1.5), (2, 1.5)]
    assert scalars(directory, "eval/top1") == [(2, 0.983)]

  def test_those_of_repeated_steps_are_dropped(self, directory):
    """A killed run had come to step 3 and is resumed after step 1."""
    for first_step, loss in ((0, 1.0), (1, 2.0)):
      writer = EventWriter(directory.tensorboard, first_step)
      for step in range(first_step + 1, 4):
        writer.write(step, {"train/loss": loss})
      writer.close()
    assert scalars(directory, "train/loss") == [(1, 1.0), (2, 2.0), (3, 2.0)]

  def test_can_be_read_while_the_run_goes_on(self, directory):
    writer = EventWriter(directory.tensorboard, 0)
    writer.write(1, {"train/loss": 0.5})
    assert scalars(directory, "train/loss") == [(1, 0.5)]
    writer.close()


def test_format_evaluation():
  assert format_evaluation(EVAL) == "top1 98.30%  top5 100.00%  loss 0.0712  (360 images)"


@pytest.mark.parametrize(("seconds", "text"), [(5, "00:05"), (187, "03:07"), (5025, "1:23:45")])
def test_format_seconds(seconds, text):
  assert format_seconds(seconds) == text
