"""The report of averaged weights: which statistics are best with them at each batch size."""

import contextlib

import fake_measurements
import fake_training
import matplotlib.image
import pytest

from benchmarks import hostile_values
from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import averaged_weights
from speedpaper_jax.reports import averaged_weights as report
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture
def page_of(scratch, tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)
  monkeypatch.setattr(averaged_weights, "measure", fake_measurements.averaged_weights)

  def make(pictures=False, **fields):
    config = load("configs/averaged_weights.py")
    config.update(fields)
    directory = RunDirectory(tmp_path)
    with contextlib.nullcontext() if pictures else hostile_values.without_pictures():
      return fake_training.report(config, directory), directory

  return make


def test_figure(page_of):
  page, directory = page_of(pictures=True)
  for name in ("accuracy.png", "accuracy.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01
  assert page.sections[0].parts[0].name == "accuracy"


def test_the_result(page_of):
  page, _ = page_of(seeds=(0,))
  # Behind by 0.3 or 0.4 times (1 + 1/2 + 1/3 + 1/4) / 4 over the run, and times 1/4 at the end.
  assert page.title == "Averaged weights on digits, and the batch statistics with them"
  for rows in (32, 256):
    assert (
      f"At a batch of {rows} averaged weights are best with Algorithm 2's statistics, 90.0 % over "
      "the whole run, then with the trained network's moving averages, 74.4 %, and the average of "
      "moving averages, 69.2 %; at the end it is 90.0 %, 82.5 % and 80.0 %."
    ) in page.result
  assert "4 runs took " in page.result


def test_tables(page_of):
  page, _ = page_of(seeds=(0, 1))
  _, final, mean = page.sections[0].parts
  assert [name for name, *_ in final.rows] == [
    *("batch 32, BN decay 0.9", "batch 32, BN decay 0.99"),
    *("batch 256, BN decay 0.9", "batch 256, BN decay 0.99"),
  ]
  assert final.rows[0][1:] == (
    *("82.5 (82.5–82.5)", "80.0 (80.0–80.0)"),
    *("90.0 (90.0–90.0)", "85.0 (85.0–85.0)"),
  )
  assert mean.rows[0][3] == "90.0 (90.0–90.0)"


@pytest.mark.parametrize(("decay", "steps"), [(0.999, "8,990"), (0.99, "890"), (0.05, "0")])
def test_how_long_the_average_is_bound(decay, steps):
  """(1 + n) / (10 + n) comes to d at n = (10·d - 1) / (1 - d)."""
  base = {"average_decay": decay, "batch_norm": {"population_batches": 8}}
  assert f"in the first {steps} steps its memory is a tenth" in report._about({"base": base})


def test_arms_without_a_field_have_the_base_s(page_of):
  page, _ = page_of(arms={"batch-32-decay-0_9": {"batch_norm": {"decay": 0.5}}}, seeds=(0,))
  assert "batch 32, BN decay 0.5" in {name for name, *_ in page.sections[0].parts[1].rows}
