"""Figures of a run."""

import matplotlib.image
import pytest

from speedpaper_jax import plots
from speedpaper_jax.run_directory import RunDirectory

TRAIN = [{"step": step, "split": "train", "loss": 2 / step, "top1": 0.2} for step in range(1, 9)]
EVAL = [{"step": 8, "split": "eval", "loss": 0.3, "top1": 0.9}]


@pytest.mark.parametrize(
  "entries",
  [TRAIN + EVAL, TRAIN[:1], EVAL, []],
  ids=["a run", "one line", "an evaluation alone", "nothing"],
)
def test_are_drawn(tmp_path, entries):
  directory = RunDirectory(tmp_path)
  for entry in entries:
    directory.append_metrics(entry)
  plots.write(directory)
  assert sorted(path.name for path in directory.plots.iterdir()) == ["loss.png", "top1.png"]
  for path in directory.plots.iterdir():
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 500
    assert pixels.std() > 0.01


def test_are_drawn_anew(tmp_path):
  directory = RunDirectory(tmp_path)
  plots.write(directory)
  empty = (directory.plots / "loss.png").read_bytes()
  for entry in TRAIN:
    directory.append_metrics(entry)
  plots.write(directory)
  assert (directory.plots / "loss.png").read_bytes() != empty


def test_describe():
  evaluation = {"top1": 0.983, "top5": 1.0, "loss": 0.0712, "count": 360}
  assert plots.describe({"steps": 645, "seconds": 187.4, "eval": evaluation}) == (
    "top1 98.30%  top5 100.00%  loss 0.0712  (360 images)  after 645 steps in 03:07"
  )
