"""configs/residual_speedup.py: epochs to an error that both networks of a pair reach."""

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
from speedpaper_jax.experiments import residual_speedup
from speedpaper_jax.models import registry
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

PAIR = ("without", "residual")
STEPS_PER_EPOCH = 5  # evaluations are every ten steps


def compare(without, residual, margin=0.0):
  found = residual_speedup.compare(
    {"without": without, "residual": residual}, [PAIR], margin, STEPS_PER_EPOCH, num_classes=10
  )
  json.dumps(found, allow_nan=False)
  return found["arms"]


class TestCompare:
  WITHOUT = arm(curve(0.2, 0.4, 0.8, 0.6), curve(0.1, 0.2, 0.3, 0.4))
  RESIDUAL = arm(curve(0.8, 0.9), curve(0.2, 0.3, 0.35), rate_factor=3.0)

  def test_the_common_accuracy_is_the_lower_one_of_the_best_with_the_same_seed(self):
    found = compare(self.WITHOUT, self.RESIDUAL)
    for row in found.values():
      assert row["common_top1"] == [0.8, 0.35]
    assert found["without"]["epochs_to_common"] == pytest.approx([30 / 5, 35 / 5])
    assert found["residual"]["epochs_to_common"] == pytest.approx([10 / 5, 30 / 5])

  def test_a_margin_lowers_it(self):
    found = compare(self.WITHOUT, self.RESIDUAL, margin=0.1)
    assert found["without"]["common_top1"] == pytest.approx([0.7, 0.25])
    assert found["without"]["epochs_to_common"] == pytest.approx([27.5 / 5, 25 / 5])

  def test_what_else_is_said_of_a_network(self):
    row = compare(self.WITHOUT, self.RESIDUAL)["residual"]
    assert (row["rate_factor"], row["diverged_at"]) == (3.0, [None, None])
    assert (row["best_top1"], row["final_top1"]) == ([0.9, 0.35], [0.9, 0.35])

  def test_there_is_none_where_one_of_them_stays_at_chance(self):
    found = compare(arm(curve(0.1, 0.14), curve(0.2, 0.4)), self.RESIDUAL)
    assert found["residual"]["common_top1"] == [None, 0.35]
    assert found["residual"]["epochs_to_common"] == [None, pytest.approx(30 / 5)]


class TestRun:
  """Of the config, with learning curves that are made up."""

  @pytest.fixture
  def directory(self, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", fake_training.run)
    return RunDirectory(tmp_path / "comparison")

  def test_summary(self, directory):
    config = load("configs/residual_speedup.py")
    config.base.optimizer.learning_rate = 0.0005
    summary = experiments.get("residual_speedup")(config, directory)
    json.dumps(summary, allow_nan=False)
    assert summary["runs"] == 4 * (3 + 2)
    assert summary["steps_per_epoch"] == 1442 / 32
    for without, residual in residual_speedup.PAIRS:
      slow, fast = (summary["arms"][name]["epochs_to_common"] for name in (without, residual))
      assert np.all(np.array(slow) > np.array(fast))

  def test_half_a_pair_is_refused(self, directory):
    config = load("configs/residual_speedup.py")
    with config.unlocked():
      del config.arms["inception_v4"]
    with pytest.raises(UserError, match=r"^config\.arms has .* which are not whole pairs; choose"):
      residual_speedup.run(config, directory)
    assert not directory.path.exists()

  def test_one_pair_is_enough(self, directory):
    config = load("configs/residual_speedup.py")
    with config.unlocked():
      del config.arms["inception_v4"], config.arms["inception_resnet_v2"]
    summary = residual_speedup.run(config, directory)
    assert summary["arms"].keys() == {"inception_v3", "inception_resnet_v1"}


@pytest.mark.slow
def test_of_trained_networks(scratch, tmp_path, monkeypatch):
  """A pair of the config with the tiny network in the place of both, on the embedded digits."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/residual_speedup.py")
  config.arms = ml_collections.ConfigDict(
    {name: config.arms[name] for name in ("inception_v3", "inception_resnet_v1")}
  )
  config.update(rate_factors=(1.0,), seeds=(0,))
  names = {key: value for key, value in tiny.SETTINGS.items() if key != "model.name"}
  config.base.update_from_flattened_dict(names)
  config.base.update(duration="6 steps", eval_every="3 steps", log_every="3 steps")
  config.base.data.update(dir=str(scratch / "data"), eval_split="test[:32]")
  summary = experiments.get("residual_speedup")(config, RunDirectory(tmp_path))
  json.dumps(summary, allow_nan=False)
  assert (summary["runs"], summary["steps"]) == (2, 12)
  rows = summary["arms"].values()
  assert all(np.isfinite(row["best_top1"]).all() for row in rows)
