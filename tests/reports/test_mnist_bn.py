"""The report of section 4.1's sigmoids."""

import numpy as np
import past_experiments
import pytest
from past_experiments import figures, paragraphs, parts

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import mnist_bn
from speedpaper_jax.reports.page import Figure, Table

STEPS = [1000, 2000, 4000, 10_000, 30_000, 50_000]
ACCURACIES = {
  "without": [0.1, 0.11, 0.65, 0.94, 0.96, 0.9669],
  "with": [0.9, 0.93, 0.951, 0.97, 0.975, 0.9761],
  "fixed": [0.9, 0.92, 0.94, 0.95, 0.96, 0.961],
}
FIGURES = {"accuracy", "percentiles", "affine", "covariate_shift"}


def write(path, steps=STEPS, accuracies=ACCURACIES, **changes):
  summary = {"networks": {name: {"top1": top1[-1]} for name, top1 in accuracies.items()}}
  return past_experiments.classification(
    path, "mnist_bn", accuracies, 3, summary, steps, accuracies, **changes
  )


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(directory):
  return mnist_bn.present(directory)


class TestPage:
  def test_title_and_result(self, page):
    assert page.title == "Sigmoids on MNIST with and without batch normalization"
    assert page.result == (
      "The accuracy on held-out digits is 96.69 % without batch normalization and 97.61 % with it "
      "after 50,000 steps, and 65.00 % and 95.10 % after 4,000. Without it the accuracy stays "
      "above 20 % only from step 4,000 on."
    )

  def test_every_figure_is_drawn(self, page, directory):
    assert figures(directory) == FIGURES
    assert {figure.name for figure in parts(page, Figure)} == FIGURES

  def test_the_papers_accuracies_stand_beside(self, page):
    (table,) = parts(page, Table)
    assert table.columns == (
      "step",
      "without BN",
      "with BN",
      "γ = 1, β = 0",
      "paper, without",
      "paper, with",
    )
    assert table.rows[0] == ("4,000", "65.00", "95.10", "94.00", "73.4", "95.3")
    assert table.rows[1] == ("10,000", "94.00", "97.00", "95.00", "92.6", "96.6")
    # Its curve without batch normalization ends at 44,000 steps.
    assert table.rows[-1] == ("50,000", "96.69", "97.61", "96.10", "–", "98.2")

  def test_what_the_paper_does_not_say(self, page):
    assert "here these are 0.04, `sgd` and 0.2" in paragraphs(page)


class TestOtherRuns:
  def test_on_digits_there_is_nothing_to_compare(self, tmp_path):
    page = mnist_bn.present(write(tmp_path, arguments="data=digits"))
    assert page.title == "Sigmoids on digits with and without batch normalization"
    assert "The paper has no numbers on digits to compare with." in paragraphs(page)
    (table,) = parts(page, Table)
    assert table.columns == ("step", "without BN", "with BN", "γ = 1, β = 0")
    assert "paper" not in table.caption
    assert "paper" not in parts(page, Figure)[0].caption

  def test_numbers_that_are_not_finite(self, tmp_path):
    directory = write(tmp_path)
    names = ("top1", "percentiles", "mean", "std", "drift", "unnormalized_drift")
    past_experiments.spoil(directory, *(f"without/{name}" for name in names))
    mnist_bn.present(directory)
    assert figures(directory) == FIGURES

  def test_no_arrays(self, tmp_path):
    directory = write(tmp_path)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(UserError, match=r"has no arrays\.npz; run its experiment again"):
      mnist_bn.present(directory)


class TestResult:
  def test_of_a_short_run(self):
    arrays = {"step": np.array([10, 20])}
    arrays |= {f"{name}/top1": np.array([0.1, 0.15]) for name in ("without", "with")}
    assert mnist_bn.result(arrays) == (
      "The accuracy on held-out digits is 15.00 % without batch normalization and 15.00 % with it "
      "after 20 steps. Without it the accuracy does not stay above 20 %."
    )


@pytest.mark.parametrize(
  ("top1", "expected"),
  [
    ([0.1, 0.3, 0.1, 0.4], 40),  # one good measurement on the plateau does not end it
    ([0.3, 0.3, 0.3, 0.3], 10),
    ([0.1, 0.1, 0.1, 0.2], None),
  ],
)
def test_plateau_end(top1, expected):
  assert mnist_bn.plateau_end(np.array([10, 20, 30, 40]), np.array(top1)) == expected


def test_typical_unit_has_the_median_spread():
  spreads = np.array([5.0, 0.0, 3.0, 4.0, 1.0])
  percentiles = np.stack([-spreads, np.full(5, 7.0), spreads])[None]
  assert mnist_bn.typical_unit(percentiles) == 2
