"""The report of scaled and unscaled residuals: dead features, and what is not finite."""

import matplotlib.image
import numpy as np
import past_experiments
import pytest

from benchmarks import hostile_values
from speedpaper_jax.reports import residual_scaling

ARMS = [
  {"scale": 1.0, "has_warmup": False},
  {"scale": 0.1, "has_warmup": False},
  {"scale": 1.0, "has_warmup": True},
]
FILTERS = [268, 536]
RATES = (0.045, 0.135)
STEPS = np.arange(0, 32, 4)


def write(path, **others):
  """Dead at the end are 90 % unscaled, 20 % scaled, 80 % with a warm-up, and half at a low rate."""
  shape = len(FILTERS), len(RATES), len(ARMS), len(STEPS)
  dead = np.zeros(shape)
  dead[..., -2:] = np.array([0.9, 0.2, 0.8])[:, None] * np.array([0.5, 1])[:, None, None]
  arrays = {
    "step": STEPS,
    "loss": np.full(shape, 2.25),
    "top1": np.full(shape, 0.5),
    "gradient_norm": np.ones(shape),
    "dead": dead,
    "zeros": np.sqrt(dead),
    "deviations": np.ones((*shape, 2)),
    **others,
  }
  summary = {
    "steps": 12 * 32,
    "seconds": 120.0,
    "chance": 0.1,
    "arms": ARMS,
    "blocks": ["block_a_1", "block_c_1"],
    "filters": FILTERS,
  }
  return past_experiments.write(path, "residual_scaling", arrays, summary, rates=RATES)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(directory):
  return residual_scaling.present(directory)


@pytest.fixture
def no_pictures():
  with hostile_values.without_pictures():
    yield


def rows(page):
  table = page.sections[0].parts[1]
  return {name: rest for name, *rest in table.rows}


def test_result(page):
  assert page.result == (
    "Of the features of the last maps so many are dead at the end, at a rate of 0.135: unscaled "
    "90 %; scale 0.1 20 %; unscaled, with warm-up 80 %. 12 runs took 2.0 min."
  )


def test_table(page):
  assert rows(page) == {
    f"{filters} filters, rate {rate:g}": cells
    for filters in FILTERS
    for rate, cells in zip(
      RATES,
      (
        ["45 · 2.25 · 50", "10 · 2.25 · 50", "40 · 2.25 · 50"],
        ["90 · 2.25 · 50", "20 · 2.25 · 50", "80 · 2.25 · 50"],
      ),
      strict=True,
    )
  }


@pytest.mark.parametrize("name", ["dead", "training", "depth"])
def test_figures(page, directory, name):
  for suffix in ("", ".dark"):
    assert matplotlib.image.imread(directory.plots / f"{name}{suffix}.png").std() > 0.01


@pytest.mark.usefixtures("no_pictures")
def test_a_run_whose_loss_is_not_finite(tmp_path):
  shape = len(FILTERS), len(RATES), len(ARMS), len(STEPS)
  loss, dead = np.full(shape, 2.25), np.full(shape, 0.25)
  loss[0, 1, 0, 3:] = dead[0, 1, 0, 3:] = np.nan
  page = residual_scaling.present(write(tmp_path, loss=loss, dead=dead))
  assert rows(page)["268 filters, rate 0.135"][0] == "loss not finite"
  assert "unscaled 25 %; scale 0.1 25 %" in page.result
  dead[:, 1, 0, 3:] = np.nan
  page = residual_scaling.present(write(tmp_path / "all", loss=loss, dead=dead))
  assert "unscaled unknown (the loss is not finite)" in page.result


@pytest.mark.usefixtures("no_pictures")
def test_different_fractions_are_a_range(tmp_path):
  dead = np.zeros((len(FILTERS), len(RATES), len(ARMS), len(STEPS)))
  dead[1, 1, 0] = 0.5
  page = residual_scaling.present(write(tmp_path, dead=dead))
  assert "at a rate of 0.135: unscaled 0–50 %; scale 0.1 0 %; " in page.result
