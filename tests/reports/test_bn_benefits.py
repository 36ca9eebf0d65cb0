"""The report of one factor: the effect beside the spread between seeds, said in words."""

import fake_training
import matplotlib.image
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.reports import bn_benefits
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

BENEFITS = ("lr", "init", "dropout", "l2", "lrn", "batch_size")


@pytest.fixture
def page_of(tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)

  def make(benefit, **fields):
    config = load(f"configs/bn_benefits.py:benefit={benefit}")
    config.update(fields)
    directory = RunDirectory(tmp_path / benefit)
    return fake_training.report(config, directory), directory

  return make


def rows(page):
  _, table = page.sections[0].parts
  return {(value, network): rest for value, network, *rest in table.rows}


@pytest.mark.parametrize("benefit", BENEFITS)
def test_figures_and_table(page_of, benefit):
  page, directory = page_of(benefit, seeds=(0, 1))
  for name in ("effect.png", "effect.dark.png", "curves.png", "curves.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01
  config = directory.read("config.json")
  assert len(rows(page)) == 2 * len(config["factor_values"])


def test_which_rates_train(page_of):
  page, _ = page_of("lr")
  assert page.result == (
    "Without BN the network learns at ×10; its best accuracy is 90.0 %, at ×10. With BN the "
    "network learns at ×1, ×3, ×10, ×30, ×100; its best accuracy is 95.0 %, at ×3."
  )


def test_a_cell_that_diverged(page_of):
  page, _ = page_of("lr")
  held_out, _, gap, diverged = rows(page)["×100", "without BN"]
  assert (held_out, gap, diverged) == ("0.0 (0.0 to 0.0)", "–", "3 of 3")
  assert rows(page)["×100", "with BN"][-1] == "0 of 3"


def test_the_rate_that_the_search_chose(page_of):
  page, directory = page_of("dropout")
  _, table = page.sections[0].parts
  assert table.columns[2] == "rate"
  chosen = directory.read("summary.json")["arms"]["with-0"]["rate_factor"]
  assert rows(page)["0%", "with BN"][0] == f"×{chosen:g}"


def test_no_effect_is_said_so(page_of):
  page, _ = page_of("lrn")  # which the fake does not know
  assert "on instead of off changes held-out accuracy by +0.0 points, less than" in page.result
  assert "more than" not in page.result


def test_one_seed_has_no_spread(page_of):
  page, _ = page_of("dropout", seeds=(0,))
  assert page.result.count("with one seed, which does not distinguish it from the spread") == 2
  assert "points between seeds" not in page.result


def test_a_gap(page_of):
  page, _ = page_of("dropout", seeds=(0,))
  _, held_out, training, gap, _ = rows(page)["0%", "with BN"]
  assert (held_out, training, gap) == ("95.0", "97.0", "2.0")


def test_factors_are_those_of_the_config():
  assert set(bn_benefits.FACTORS) == set(BENEFITS)
