"""The report of the parabola with and without batch normalization."""

import numpy as np
import past_experiments
import pytest
from past_experiments import figures, paragraphs, parts

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import bn_fc, ridgelines
from speedpaper_jax.reports.page import Figure, Table

LOSSES = {"without": [1172.0, 1000.0, 900.0, 838.04], "with": [1172.0, 300.0, 40.0, 19.94]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return past_experiments.bn_fc(tmp_path_factory.mktemp("run"), LOSSES)


@pytest.fixture(scope="module")
def page(directory):
  return bn_fc.present(directory)


class TestPage:
  def test_result(self, page, directory):
    variance = directory.read("summary.json")["test_variance"]
    assert page.result == (
      "After 3 epochs the test loss is 838.0 without batch normalization and 19.9 with it; the "
      f"best constant has {variance:.1f}."
    )

  def test_every_figure_is_drawn(self, page, directory):
    assert figures(directory) == {"inputs", "activations", "loss", "fit"}
    assert {figure.name for figure in parts(page, Figure)} == figures(directory)

  def test_the_final_model_is_in_the_table(self, page):
    (losses,) = parts(page, Table)
    assert losses.columns == ("epoch", "without BN", "with BN")
    assert losses.rows[0] == ("0", "1172.0", "1172.0")
    assert losses.rows[-1] == ("3", "838.0", "19.9")

  def test_settings(self, page):
    text = paragraphs(page)
    assert "3 hidden layers of 10 units, ReLU, and the same initial weights" in text
    assert "a decay of 0.5" in text
    assert "configs/bn_fc.py:activation=relu,input_batch_norm=no`" in text


class TestResult:
  def test_a_loss_that_no_longer_changes_has_settled(self, directory):
    arrays = {**directory.read_arrays(), "without/test_loss": np.array([1172, 700, 689.6, 689.6])}
    assert bn_fc.result(arrays, 690.0).startswith(
      "After 3 epochs the test loss has settled at 689.6 without batch normalization and is 19.9 "
      "with it; the best constant has 690.0."
    )

  def test_a_constant_output_is_told(self, directory):
    arrays = {**directory.read_arrays(), "without/outputs": np.full((4, 20), 9.7)}
    assert bn_fc.result(arrays, 690.0).endswith(
      "690.0. Without batch normalization the output is the same for every x."
    )

  def test_numbers_that_are_not_finite(self, directory):
    arrays = directory.read_arrays()
    arrays["without/test_loss"] = np.array([1172, 1e30, np.inf, np.nan])
    arrays["without/outputs"] = np.full((4, 20), np.nan)
    assert "the test loss is nan without batch normalization" in bn_fc.result(arrays, 690.0)
    assert "the same" not in bn_fc.result(arrays, 690.0)


class TestOtherRuns:
  def test_inputs_that_depend_on_nothing_are_told(self, tmp_path):
    constant = {"without/inputs": np.full((4, 3, 40), -0.2)}
    run = past_experiments.bn_fc(
      tmp_path, LOSSES, constant, arguments="activation=tanh,input_batch_norm=no"
    )
    text = paragraphs(bn_fc.present(run))
    assert "without BN it is less than 0.01 in the first layer and less than 0.01" in text
    assert "on x itself" not in text
    assert "tanh" in text

  def test_of_many_layers_some_are_shown(self, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(ridgelines, "paint", lambda *_, layers, **__: shown.append(list(layers)))
    bn_fc.present(past_experiments.bn_fc(tmp_path, LOSSES, layers=15))
    assert set(map(tuple, shown)) == {(1, 3, 5, 7, 9, 11, 13, 15)}

  def test_numbers_that_are_not_finite(self, tmp_path):
    run = past_experiments.bn_fc(tmp_path, LOSSES)
    past_experiments.spoil(
      run, *(f"without/{name}" for name in ("inputs", "activations", "outputs", "test_loss"))
    )
    assert "without BN it is not finite in the first layer" in paragraphs(bn_fc.present(run))
    assert figures(run) == {"inputs", "activations", "loss", "fit"}

  def test_no_arrays(self, tmp_path):
    run = past_experiments.bn_fc(tmp_path, LOSSES)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(UserError, match=r"has no arrays\.npz; run its experiment again"):
      bn_fc.present(run)


@pytest.mark.parametrize(
  ("last", "expected"), [(12, [0, 1, 4, 12]), (3, [0, 1, 3]), (1, [0, 1]), (0, [0])]
)
def test_shown_epochs(last, expected):
  assert bn_fc.shown_epochs(last) == expected
