"""The report of internal covariate shift in Inception."""

import past_experiments
import pytest
from past_experiments import figures, paragraphs, parts

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import covariate_shift
from speedpaper_jax.reports.page import Figure, Table

LAYERS = [
  "conv1",
  "conv2_reduce",
  "conv2",
  "inception_3a/conv_1x1",
  "inception_3a/conv_3x3",
  "inception_3b/conv_1x1",
]
STEPS = [100, 200]
ACCURACIES = {"without": [0.5, 0.9521], "with": [0.6, 0.969]}
FIGURES = {"covariate_shift", "accuracy"}


def summary_of(without, unnormalized, with_batch_norm):
  return {
    "layers": LAYERS,
    "networks": {
      "without": {"top1": 0.9521, "drift": without, "unnormalized_drift": without},
      "with": {"top1": 0.969, "drift": with_batch_norm, "unnormalized_drift": unnormalized},
    },
  }


def write(path, without=0.0683, unnormalized=0.0077, with_batch_norm=1.98e-5):
  summary = summary_of(without, unnormalized, with_batch_norm)
  return past_experiments.classification(
    path, "covariate_shift", ACCURACIES, len(LAYERS), summary, STEPS, ACCURACIES
  )


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(directory):
  return covariate_shift.present(directory)


class TestPage:
  def test_result(self, page):
    assert page.result == (
      "In one step of training the mean of a nonlinearity's input drifts by 0.068 of its standard "
      "deviation without batch normalization. With it the drift is 0.0077 before normalization and "
      "0.00002 after it (medians over layers and time). After 200 steps the accuracy on held-out "
      "images is 95.21 % without and 96.90 % with it."
    )

  def test_every_figure_is_drawn(self, page, directory):
    assert figures(directory) == FIGURES
    assert {figure.name for figure in parts(page, Figure)} == FIGURES

  def test_table(self, page):
    (table,) = parts(page, Table)
    assert [(*row[:3], row[4]) for row in table.rows] == [
      ("without BN", "0.068", "0.068", "95.21 %"),
      ("with BN", "0.00002", "0.0077", "96.90 %"),
    ]

  def test_what_is_so_by_construction_and_what_is_disputed(self, page):
    text = paragraphs(page)
    assert "by construction" in text
    for paper in ("1805.11604", "1806.02375", "1702.08591", "1809.00846"):
      assert paper in text

  def test_settings(self, page):
    text = paragraphs(page)
    assert "learns `digits` at 32×32 pixels" in text
    assert "the statistics are those of 64 training images" in text.lower()


@pytest.mark.parametrize(
  ("unnormalized", "with_batch_norm", "sentence"),
  [
    (0.05, 0.1, "In this run it is not smaller with batch normalization."),
    (0.1, 0.01, "Before normalization it is not smaller than without, in this run."),
  ],
)
def test_a_drift_that_is_not_smaller_is_told(unnormalized, with_batch_norm, sentence):
  summary = {"steps": 200, **summary_of(0.1, unnormalized, with_batch_norm)}
  assert sentence in covariate_shift.result(summary)
  assert "not smaller" not in covariate_shift.result({**summary, **summary_of(0.1, 0.09, 0.01)})


def test_module_labels():
  assert covariate_shift.module_labels(LAYERS) == {0: "conv", 3: "3a", 5: "3b"}


def test_numbers_that_are_not_finite(tmp_path):
  directory = write(tmp_path, without=float("nan"))
  past_experiments.spoil(
    directory, *(f"without/{name}" for name in ("top1", "mean", "std", "drift"))
  )
  assert "drifts by nan" in covariate_shift.present(directory).result
  assert figures(directory) == FIGURES


def test_no_arrays(tmp_path):
  directory = write(tmp_path)
  (tmp_path / "arrays.npz").unlink()
  with pytest.raises(UserError, match=r"has no arrays\.npz; run its experiment again"):
    covariate_shift.present(directory)
