"""The report of the small Inception: what is added, beside what the paper prints."""

import fake_training
import matplotlib.image
import ml_collections
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture
def page_of(scratch, tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)

  def make(rate=0.005, arms=None, **fields):
    config = load("configs/small_inception.py")
    config.base.data.dir = str(scratch / "data")
    config.base.optimizer.learning_rate = rate
    if arms is not None:
      config.arms = ml_collections.ConfigDict({arm: config.arms[arm] for arm in arms})
    config.update(fields)
    directory = RunDirectory(tmp_path)
    return fake_training.report(config, directory), directory

  return make


def tables(page):
  _, accuracies, additions = page.sections[0].parts
  return ({name: rest for name, *rest in table.rows} for table in (accuracies, additions))


def test_figures(page_of):
  page, directory = page_of()
  for name in ("curves.png", "curves.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01
  assert page.sections[0].parts[0].name == "curves"
  assert {path.name for path in directory.plots.iterdir()} == {"curves.png", "curves.dark.png"}


def test_accuracies_beside_the_papers(page_of):
  page, _ = page_of(seeds=(0, 1))
  accuracies, _ = tables(page)
  # Without batch normalization 0.1 + 4 · 20 · 0.005 = 0.5; a tenth of the rise more with seed 1.
  without = ["0.005", *["52.00 (50.00–54.00)"] * 2, "54.00 (52.00–56.00)"]
  with_batch_norm = ["0.005", *["95.00 (95.00–95.00)"] * 2, "97.00 (97.00–97.00)"]
  assert accuracies == {
    "batch normalization and weight decay": [*with_batch_norm, "86.03", "100.0"],
    "batch normalization alone": [*with_batch_norm, "85.75", "100.0"],
    "weight decay alone": [*without, "83.00", "100.0"],
    "neither": [*without, "82.00", "100.0"],
  }


def test_what_is_added_beside_the_papers(page_of):
  page, _ = page_of(seeds=(0, 1))
  _, additions = tables(page)
  assert additions == {
    "batch normalization, with weight decay": ["+43.00 (from +41.00 to +45.00)", "+3.03"],
    "batch normalization, without weight decay": ["+43.00 (from +41.00 to +45.00)", "+3.75"],
    "weight decay, with batch normalization": ["+0.00 (from +0.00 to +0.00)", "+0.28"],
    "weight decay, without batch normalization": ["+0.00 (from +0.00 to +0.00)", "+1.00"],
  }


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_that_one_seed_says_little_is_told(page_of, seeds):
  page, _ = page_of(seeds=seeds)
  _, _, additions = page.sections[0].parts
  assert ("Another seed may change it" in additions.caption) == (len(seeds) == 1)


def test_the_result(page_of):
  page, _ = page_of()
  assert page.title.startswith("The small Inception on digits, with and without batch normalizat")
  assert page.result.startswith(
    "Batch normalization changes the accuracy at the end by +45.00 points with weight decay and "
    "+45.00 points without weight decay (in the paper on CIFAR-10 by +3.03 and +3.75). Weight "
    "decay changes the accuracy at the end by +0.00 points with batch normalization and +0.00 "
    "points without batch normalization (in the paper on CIFAR-10 by +0.28 and +1.00). 4 runs took "
  )


def test_training_that_diverged(page_of):
  page, _ = page_of(rate=0.03)
  accuracies, additions = tables(page)
  assert accuracies["neither, 1 diverged"][1:4] == ["0.00", "90.00", "–"]
  assert [cells[0] for cells in additions.values()] == [
    *["undefined"] * 2,
    *["+0.00", "undefined"],
  ]
  assert page.result.startswith(
    "Weight decay changes the accuracy at the end by +0.00 points with batch normalization (in the "
    "paper on CIFAR-10 by +0.28). With weight decay alone and with neither training diverged. "
  )


def test_arms_that_differ_in_both(page_of):
  page, _ = page_of(arms=("batch_norm_and_decay", "neither"))
  accuracies, additions = tables(page)
  assert len(accuracies) == 2
  assert {cells[0] for cells in additions.values()} == {"undefined"}
  assert page.result.startswith(
    "With batch normalization and weight decay the network comes to 95.00 %. 2 runs took "
  )


def test_the_search_where_there_is_one(page_of):
  page, directory = page_of(rate_factors=(0.5, 1.0))
  _, search = page.sections
  assert "0.5, 1 times the paper's with seed 0" in search.paragraphs[0]
  assert (directory.plots / "search.png").exists()
