"""The report of an ensemble: how far it is better than its members, beside the papers' numbers."""

import fake_ensembles
import fake_training
import matplotlib.image
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.papers import batch_norm, residual_learning
from speedpaper_jax.reports import ensemble
from speedpaper_jax.training import train

VALIDATION = "50,000 validation images"
TEST = "100,000 test images, by the test server"


@pytest.fixture
def page_of(scratch, tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)
  fake_ensembles.install(monkeypatch)

  def make(name, change=lambda config: None):
    config = load(f"configs/{name}.py")
    config.base.data.dir = str(scratch / "data")
    change(config)
    directory = fake_ensembles.write(tmp_path, config)
    return ensemble.present(directory), directory

  return make


def parts(page):
  _, members, *papers = page.sections[0].parts
  return members, papers


def test_figure(page_of):
  page, directory = page_of("bn_ensemble")
  assert page.sections[0].parts[0].name == "error"
  for name in ("error.png", "error.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01


def test_the_result(page_of):
  page, directory = page_of("bn_ensemble")
  summary = directory.read("summary.json")
  errors = [100 * (1 - member["top1"]) for member in summary["members"].values()]
  together = 100 * (1 - summary["ensemble"]["top1"])
  assert together < min(errors) < max(errors)
  assert page.title == "An ensemble of 6 networks on digits"
  assert page.result.startswith(
    f"Six networks with errors of {min(errors):.2f} to {max(errors):.2f} % make an ensemble with "
    f"{together:.2f} %. Their training took "
  )


def test_equal_members():
  evaluation = {"top1": 0.75, "top5": 1.0, "loss": 0.5, "count": 8}
  single = {"count": 1, "subsets": 13, "mean": 0.25, "lowest": 0.25, "highest": 0.25}
  summary = {
    "members": {str(number): evaluation for number in range(13)},
    "ensemble": evaluation,
    "by_count": [single],
    "seconds": 60,
  }
  assert ensemble._result(summary).startswith(
    "13 networks with errors of 25.00 % make an ensemble with 25.00 %."
  )


def test_members(page_of):
  page, directory = page_of("bn_ensemble")
  table, _ = parts(page)
  found = {row[0]: row[1:] for row in table.rows}
  assert [row[0] for row in table.rows][-1] == "ensemble"
  assert {name: row[1] for name, row in found.items()} == {
    "larger_weights": "initial weights 2 times as large",
    "dropout_5": "dropout 5 %, seed 1",
    "dropout_10": "dropout 10 %, seed 2",
    "per_activation": (
      "batch normalization of each activation in inception_5a, inception_5b, seed 3"
    ),
    "larger_weights_dropout_5": "dropout 5 %, initial weights 2 times as large, seed 4",
    "per_activation_dropout_10": (
      "batch normalization of each activation in inception_5a, inception_5b, dropout 10 %, seed 5"
    ),
    "ensemble": "–",
  }
  assert {row[0] for name, row in found.items() if name != "ensemble"} == {"BN-Inception"}
  summary = directory.read("summary.json")
  for name, evaluation in {**summary["members"], "ensemble": summary["ensemble"]}.items():
    assert found[name][2:] == (
      f"{100 * (1 - evaluation['top1']):.2f}",
      f"{100 * (1 - evaluation['top5']):.2f}",
      f"{evaluation['loss']:.4f}",
    )
  assert "on 200 held-out images of 48 pixels, one crop." in table.caption


def test_beside_figure_4(page_of):
  page, directory = page_of("bn_ensemble")
  _, (table,) = parts(page)
  ours, paper = table.rows[:2], table.rows[2:]
  summary = directory.read("summary.json")
  assert ours[0][3] == f"{100 * summary['by_count'][0]['mean']:.2f}"
  assert ours[1][:4] == (
    *("here: ensemble of 6", "1", "200 held-out images"),
    f"{100 * (1 - summary['ensemble']['top1']):.2f}",
  )
  assert paper == [
    ("paper: BN-Inception single crop", "1", VALIDATION, "25.2", "7.82"),
    ("paper: BN-Inception multicrop", "144", VALIDATION, "21.99", "5.82"),
    ("paper: BN-Inception ensemble", "144", VALIDATION, "20.1", "4.9"),
    ("paper: BN-Inception ensemble", "144", TEST, "–", "4.82"),
  ]
  assert len(paper) == len(batch_norm.FIGURE_4) + 1


def test_beside_table_5(page_of):
  page, _ = page_of("inception_ensemble")
  members, (table,) = parts(page)
  assert [row[1] for row in members.rows][:-1] == [*["Inception-ResNet-v2"] * 3, "Inception-v4"]
  assert members.rows[3][2] == "nothing"
  few = "validation images, without some 1,700"
  ensembles = "paper: four Inception-v3", "paper: Inception-v4 and three Inception-ResNet-v2"
  assert table.rows[2:] == [
    ("paper: Inception-v4", "1", few, "20.0", "5.0"),
    ("paper: Inception-v4", "144", VALIDATION, "17.7", "3.8"),
    ("paper: Inception-ResNet-v2", "1", few, "19.9", "4.9"),
    ("paper: Inception-ResNet-v2", "144", VALIDATION, "17.8", "3.7"),
    (ensembles[0], "144", VALIDATION, "17.3", "3.6"),
    (ensembles[1], "144", VALIDATION, "16.5", "3.1"),
    (ensembles[1], "144", TEST, "–", "3.08"),
  ]
  assert residual_learning.TABLE_5_TEST_TOP5 == 3.08


def test_an_ensemble_of_ones_own_has_no_papers_beside_it(page_of):
  def change(config):
    config.members.dropout_5.model.name = "googlenet"

  page, _ = page_of("bn_ensemble", change)
  table, papers = parts(page)
  assert papers == []
  assert {row[0]: row[1] for row in table.rows}["dropout_5"] == "GoogLeNet"


def test_members_of_several_sizes(page_of):
  def change(config):
    config.members.dropout_5.data = {"image_size": 64}

  page, _ = page_of("bn_ensemble", change)
  table, _ = parts(page)
  assert "of their own numbers of pixels" in table.caption
  assert {row[0]: row[2] for row in table.rows}["dropout_5"].endswith(", data.image_size = 64")
