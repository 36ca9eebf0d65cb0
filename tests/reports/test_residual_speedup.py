"""The report of networks with and without residual connections."""

import fake_training
import matplotlib.image
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.papers import residual_learning as paper
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture
def page_of(tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)

  def make(rate=0.0005, **fields):
    config = load("configs/residual_speedup.py")
    config.update(rate_factors=(1.0,), **fields)
    config.base.optimizer.learning_rate = rate
    directory = RunDirectory(tmp_path)
    return fake_training.report(config, directory), directory

  return make


def rows(page):
  _, table = page.sections[0].parts
  return {name: rest for name, *rest in table.rows}


def test_figures(page_of):
  _, directory = page_of()
  for name in ("curves.png", "curves.dark.png", "search.png", "search.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01


def test_epochs_to_the_common_error_beside_the_paper_s(page_of):
  page, _ = page_of(seeds=(0,), margin=0.0)
  # Inception-v3 ends at 0.1 + 80 · 0.0005 · 4 = 0.26; at twice the speed that takes half the steps.
  slow, fast = rows(page)["Inception-v3"], rows(page)["Inception-ResNet-v1"]
  assert slow[:5] == ["0.0005", f"{40 * 32 / 1442:.1f}", "1", "74.0", "74.0"]
  assert fast[:5] == ["0.0005", f"{20 * 32 / 1442:.1f}", "2.0", "58.0", "58.0"]
  pair = paper.PAIRS[0]
  error = paper.common_error(pair, 0.0)
  epochs = [paper.epochs_to(name, error) for name in pair]
  assert slow[5:] == [f"{epochs[0]:.0f} (to {error:.1f} %)", "1", "21.2"]
  assert fast[5:] == [
    f"{epochs[1]:.0f} (to {error:.1f} %)",
    f"{epochs[0] / epochs[1]:.2f}",
    "21.3",
  ]


def test_the_result_is_that_of_both_pairs(page_of):
  page, _ = page_of(margin=0.0)
  assert page.result.startswith("Inception-ResNet-v1 comes to an error of 72.40 % in 0.4 epochs, ")
  assert "Inception-v3 in 0.9: 2.0 (2.0–2.0) times as many." in page.result
  assert "Inception-ResNet-v2 comes to an error of" in page.result
  assert page.result.endswith("12 runs took 0 s.")


def test_a_pair_at_chance(page_of):
  page, _ = page_of(rate=1e-6, seeds=(0,))
  assert page.result.startswith("Inception-v3 and Inception-ResNet-v1 reach no common error. ")
  assert {row[1] for row in rows(page).values()} == {"undefined"}
  assert any(
    paragraph.startswith("With 1 of 1 seeds Inception-v4 or Inception-ResNet-v2 stayed at chance")
    for paragraph in page.sections[0].paragraphs
  )
