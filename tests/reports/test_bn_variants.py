"""The report of section 4.2's networks: ratios, what never gets there, and what is undefined."""

import fake_training
import matplotlib.image
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture
def page_of(tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)

  def make(**fields):
    config = load("configs/bn_variants.py")
    config.update(fields)
    directory = RunDirectory(tmp_path)
    return fake_training.report(config, directory), directory

  return make


def rows(page):
  table, _ = page.sections[0].parts
  return {name: rest for name, *rest in table.rows}


def test_figures(page_of):
  _, directory = page_of()
  for name in ("curves.png", "curves.dark.png", "search.png", "search.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01


def test_ratios_beside_the_papers(page_of):
  page, _ = page_of(rate_factors=(1.0,), seeds=(0, 1))
  found = rows(page)
  # The baseline ends at 0.1 + 4 · 20 · 0.0015 = 0.22, which four times its speed reaches in 10.
  assert found["Inception"][:3] == ["0.0015", "40 (40–40)", "1.0 (1.0–1.0)"]
  assert found["Inception"][4:] == ["31.0M", "1.0", "72.2"]
  assert found["BN-Baseline"][1:3] == ["10 (10–10)", "4.0 (4.0–4.0)"]
  assert found["BN-x5"][4:] == ["2.1M", "14.8", "73.0"]
  assert found["BN-x5-Sigmoid"][4:] == ["never", "–", "69.8"]
  assert found["Inception with sigmoids"][1:3] == ["never", "never"]
  assert found["Inception with sigmoids"][-1] == "chance"


def test_the_fastest_is_named(page_of):
  page, _ = page_of(rate_factors=(1.0,), baseline="inception_x5")
  # That one ends at 0.1 + 4 · 20 · 0.0075 = 0.7, and BN-x30 is at 0.95 after ten steps.
  assert page.result.startswith(
    "BN-x30 needs 5.4 times fewer steps than Inception at 5 times the rate to its best accuracy, "
    "70.00 %."
  )


def test_a_baseline_at_chance(page_of):
  page, _ = page_of(rate_factors=(1.0,), baseline="inception_sigmoid")
  assert page.result.startswith("Inception with sigmoids stayed at chance, so that there is no")
  assert {row[2] for row in rows(page).values()} == {"undefined"}


def test_a_run_of_the_search_that_diverged(page_of):
  page, _ = page_of(rate_factors=(3.0,))  # 3 · 0.0075 is above what the fake bears without BN
  assert rows(page)["Inception at 5 times the rate"][3].endswith(", 1 diverged")


def test_the_policy_is_told(page_of):
  page, _ = page_of()
  _, search = page.sections
  assert "0.33, 1, 3 times its rate in the paper with seed 0" in search.paragraphs[0]
