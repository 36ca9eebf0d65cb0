"""The report of auxiliary heads: by what they raise the stem's gradient, and the accuracies."""

import contextlib

import fake_measurements
import fake_training
import matplotlib.image
import numpy as np
import pytest

from benchmarks import hostile_values
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import aux_heads
from speedpaper_jax.reports import aux_heads as report
from speedpaper_jax.reports import present
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture
def page_of(scratch, tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)
  monkeypatch.setattr(aux_heads, "measure", fake_measurements.aux_heads)

  def make(network=None, pictures=False, **fields):
    config = load("configs/aux_heads.py")
    for arm in list(config.arms):
      if network is not None and not arm.startswith(network):
        del config.arms[arm]
    config.update(fields)
    directory = RunDirectory(tmp_path)
    with contextlib.nullcontext() if pictures else hostile_values.without_pictures():
      return fake_training.report(config, directory), directory

  return make


def rows(page):
  _, table = page.sections[0].parts
  return {name: rest for name, *rest in table.rows}


def test_figures(page_of):
  page, directory = page_of(pictures=True)
  for name in ("gradients.png", "gradients.dark.png", "accuracy.png", "accuracy.dark.png"):
    assert matplotlib.image.imread(directory.plots / name).std() > 0.01
  assert page.sections[0].parts[0].name == "gradients"


def test_the_result(page_of):
  """GoogLeNet has no batch normalization, with which it would have come to 95 %."""
  page, _ = page_of(seeds=(0,), base={"optimizer": {"learning_rate": 0.001}})
  assert page.title == "Auxiliary heads on digits: gradients and accuracy"
  assert page.result.startswith(
    "In GoogLeNet heads make the gradient of the stem 3.0 times as large before the first step and "
    "2.0 times after the last, where the accuracy is 18.0 % with them and 18.0 % without. In "
    "Inception-v3 heads make the gradient of the stem 3.0 times as large"
  )
  assert "4 runs took " in page.result


def test_table(page_of):
  page, _ = page_of(network="googlenet", seeds=(0, 1), base={"optimizer": {"learning_rate": 0.001}})
  accuracies = ["18.4 (18.0–18.8)", "18.4 (18.0–18.8)"]
  assert rows(page) == {
    "GoogLeNet without heads": ["0", "–", "–", "–", *accuracies],
    "GoogLeNet with heads": ["0.3", "× 3.00", "× 2.00", "× 2.00", *accuracies],
  }


def test_the_stem_and_the_batch_are_named(page_of):
  page, _ = page_of(network="inception_v3")
  assert "cross-entropy of 128 training images" in page.sections[0].paragraphs[0]
  assert page.sections[0].paragraphs[0].endswith("Inception-v3's `conv_1a_3x3`.")


def test_a_factor_that_is_not_known(page_of, monkeypatch):
  def measure(config, run):
    measured = fake_measurements.aux_heads(config, run)
    measured["whole"] = np.full_like(measured["whole"], np.nan).tolist()
    return measured

  monkeypatch.setattr(aux_heads, "measure", measure)
  page, _ = page_of(network="googlenet")
  assert "the stem an unknown number of times as large" in page.result
  assert rows(page)["GoogLeNet with heads"][1] == "not finite"


def test_modules_have_short_names():
  names = ("conv1", "conv_1a_3x3", "conv2_reduce", "inception_3a", "mixed_5b", "logits")
  assert list(map(report._short, names)) == [
    *("conv1", "conv_1a", "conv2_reduce"),
    *("3a", "5b", "logits"),
  ]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"stem_factor": [1.0]}, "has not as many factors as steps"),
    ({"stem": ["logits"]}, r"stem is not where the modules begin"),
  ],
)
def test_a_summary_that_does_not_go_together(page_of, change, message):
  _, directory = page_of(network="googlenet")
  summary = directory.read("summary.json")
  summary["networks"]["googlenet"] |= change
  directory.write("summary.json", summary)
  with pytest.raises(UserError, match=rf"summary\.json is damaged, .*: .*{message}"):
    present(directory)
