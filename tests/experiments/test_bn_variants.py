"""configs/bn_variants.py: steps to the baseline's accuracy, and a comparison from end to end."""

import json

import fake_training
import ml_collections
import numpy as np
import pytest
import tiny
from fake_training import arm, curve

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import bn_variants
from speedpaper_jax.models import registry
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

CLASSES = 10


def compare(**arms):
  found = bn_variants.compare(arms, "baseline", CLASSES)
  json.dumps(found, allow_nan=False)
  return found


class TestCompare:
  BASELINE = arm(curve(0.2, 0.4, 0.8, 0.6), curve(0.1, 0.2, 0.3, 0.4))

  def test_the_baseline_s_speedup_is_one(self):
    found = compare(baseline=self.BASELINE)
    assert found["chance"] == 0.1
    assert found["targets"] == [0.8, 0.4]
    assert found["arms"] == {
      "baseline": {
        "rate_factor": 1.0,
        "best_top1": [0.8, 0.4],
        "diverged_at": [None, None],
        "steps_to_target": [30, 40],
        "speedup": [1.0, 1.0],
      }
    }

  def test_a_faster_arm_with_each_seed(self):
    fast = arm(curve(0.8, 0.9), curve(0.3, 0.5), rate_factor=3.0)
    row = compare(baseline=self.BASELINE, fast=fast)["arms"]["fast"]
    assert row["rate_factor"] == 3.0
    assert row["best_top1"] == [0.9, 0.5]
    assert row["steps_to_target"] == pytest.approx([10, 15])
    assert row["speedup"] == pytest.approx([30 / 10, 40 / 15])

  def test_an_arm_that_never_comes_so_far(self):
    slow = arm(curve(0.3, 0.7), curve(0.2, 0.4))
    row = compare(baseline=self.BASELINE, slow=slow)["arms"]["slow"]
    assert row["steps_to_target"] == [None, 20]
    assert row["speedup"] == [None, 2.0]

  def test_an_arm_that_diverged(self):
    absurd = arm(curve(0.9, diverged_at=13), curve(diverged_at=1))
    row = compare(baseline=self.BASELINE, absurd=absurd)["arms"]["absurd"]
    assert row["diverged_at"] == [13, 1]
    assert row["best_top1"] == [0.9, 0.0]
    assert row["steps_to_target"] == [pytest.approx(80 / 9), None]

  def test_there_is_no_target_where_the_baseline_is_at_chance(self):
    """It may be a little above 1/classes where the classes are not equally frequent."""
    baseline = arm(curve(0.1, 0.14), curve(0.2, 0.4))
    found = compare(baseline=baseline, other=arm(curve(0.5, 0.6), curve(0.4, 0.6)))
    assert found["targets"] == [None, 0.4]
    assert found["arms"]["baseline"]["speedup"] == [None, 1.0]
    assert found["arms"]["other"]["steps_to_target"] == [None, 10]
    assert found["arms"]["other"]["speedup"] == [None, 2.0]


class TestRun:
  """Of the config, with learning curves that are made up."""

  @pytest.fixture
  def directory(self, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", fake_training.run)
    return RunDirectory(tmp_path / "comparison")

  def test_summary(self, directory):
    config = load("configs/bn_variants.py")
    config.seeds = (0, 1)
    summary = experiments.get("bn_variants")(config, directory)
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {
      *("num_classes", "runs", "steps", "seconds"),
      *("chance", "targets", "arms"),
    }
    assert summary["runs"] == 7 * (3 + 1)
    assert summary["chance"] == 0.1
    assert summary["arms"].keys() == set(config.arms)
    assert summary["arms"]["inception"]["speedup"] == [1.0, 1.0]
    for name in ("bn_baseline", "bn_x5", "bn_x30", "bn_x5_sigmoid"):
      assert min(summary["arms"][name]["speedup"]) > 1
    assert summary["arms"]["inception_sigmoid"]["steps_to_target"] == [None, None]
    assert directory.read("config.json") == json.loads(config.to_json())

  def test_a_baseline_that_is_none_of_the_arms(self, directory):
    config = load("configs/bn_variants.py")
    config.baseline = "inceptoin"
    with pytest.raises(UserError, match=r"^config\.baseline='inceptoin' is none of the arms: bn_b"):
      bn_variants.run(config, directory)
    assert not directory.path.exists()


@pytest.mark.slow
def test_of_trained_networks(scratch, tmp_path, monkeypatch):
  """Two arms of the config with the tiny network on the embedded digits."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/bn_variants.py")
  config.arms = ml_collections.ConfigDict(
    {name: config.arms[name] for name in ("inception", "bn_x5")}
  )
  config.rate_factors = (1.0,)
  config.base.update_from_flattened_dict(tiny.SETTINGS)
  config.base.update(duration="6 steps", eval_every="3 steps", log_every="3 steps")
  config.base.data.update(dir=str(scratch / "data"), eval_split="test[:32]")
  directory = RunDirectory(tmp_path)
  summary = experiments.get("bn_variants")(config, directory)
  json.dumps(summary, allow_nan=False)
  assert (summary["num_classes"], summary["runs"], summary["steps"]) == (10, 2, 12)
  for name, row in summary["arms"].items():
    curve = learning_curves.read(directory, learning_curves.run_name(name, 1.0, 0))
    assert curve.steps == [3, 6]
    assert row["best_top1"] == [max(curve.top1)]
    assert np.isfinite(curve.loss).all()
  runs = directory.path / "runs"
  configs = [json.loads(path.read_text()) for path in sorted(runs.glob("*/config.json"))]
  assert [config["batch_norm"]["enabled"] for config in configs] == [True, False]
