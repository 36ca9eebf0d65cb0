"""One factor at a time: what the summary says of every value, with and without BN."""

import json
import runpy

import fake_training
import pytest

import speedpaper_jax.reports.bn_benefits as report
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import bn_benefits
from speedpaper_jax.storage.learning_curves import arm_name
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


@pytest.fixture
def directory(tmp_path, monkeypatch):
  monkeypatch.setattr(train, "run", fake_training.run)
  return RunDirectory(tmp_path)


def test_every_value_is_trained_with_and_without(directory):
  config = load("configs/bn_benefits.py:benefit=lr")
  summary = bn_benefits.run(config, directory)
  expected = {
    arm_name(network, value) for value in (1, 3, 10, 30, 100) for network in ("with", "without")
  }
  assert set(summary["arms"]) == expected
  assert summary["runs"] == len(expected) * 3  # seeds; the rate is the factor, not searched for
  assert summary["chance"] == 0.1
  json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("benefit", "luck", r"config\.benefit='luck' is unknown"),
    ("factor_values", (1, 7), r"factor_values has 7, but there is no 'without-7' in config\.arms"),
    ("factor_values", (), r"config\.factor_values is \(\); it must be a list that is not empty"),
  ],
)
def test_what_has_no_arms_or_no_report_is_refused_before_any_run(directory, field, value, message):
  config = load("configs/bn_benefits.py:benefit=lr")
  config[field] = value
  with pytest.raises(UserError, match=message):
    bn_benefits.run(config, directory)
  assert not any(directory.path.iterdir())


def test_every_factor_has_a_report():
  assert set(runpy.run_path("configs/bn_benefits.py")["BENEFITS"]) == set(report.FACTORS)


def test_a_run_that_diverged(directory):
  summary = bn_benefits.run(load("configs/bn_benefits.py:benefit=lr"), directory)
  high = summary["arms"]["without-100"]
  assert high["diverged_at"] == [30, 30, 30]
  assert high["final_top1"] == [0.0, 0.0, 0.0]
  assert summary["arms"]["with-100"]["diverged_at"] == [None, None, None]


def test_accuracies_by_seed(directory):
  summary = bn_benefits.run(load("configs/bn_benefits.py:benefit=lr"), directory)
  found = summary["arms"]["without-1"]
  # 0.1, and 20 · 0.0015 in ten steps, a tenth more with each seed
  assert found["final_top1"] == pytest.approx([0.22, 0.232, 0.244])
  assert found["train_top1"] == pytest.approx([0.24, 0.252, 0.264])


def test_all_other_factors_are_searched_for_their_rate(directory):
  config = load("configs/bn_benefits.py:benefit=dropout")
  summary = bn_benefits.run(config, directory)
  assert summary["runs"] == 4 * (2 + 2)  # two rates with one seed, then two seeds more
  assert {found["rate_factor"] for found in summary["arms"].values()} == {5.0}
