"""configs/small_inception.py: what is said of its arms, and a comparison from end to end."""

import json

import numpy as np
import pytest
import tiny
from fake_training import arm, curve

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import small_inception
from speedpaper_jax.models import registry
from speedpaper_jax.reports import present
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.run_directory import RunDirectory


@pytest.fixture
def config(scratch):
  config = load("configs/small_inception.py")
  config.base.data.dir = str(scratch / "data")
  return config


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "comparison")


def test_accuracies_by_seed():
  trained = arm(curve(0.2, 0.8, 0.6), curve(0.9, diverged_at=13), rate_factor=0.3)
  assert small_inception.accuracies(trained) == {
    "rate_factor": 0.3,
    "best_top1": [0.8, 0.9],
    "final_top1": [0.6, 0.0],
    "train_top1": [None, None],
    "diverged_at": [None, 13],
  }


def test_summary(config, directory, trained_configs):
  """With learning curves that are made up."""
  config.seeds = (0, 1)
  config.base.optimizer.learning_rate = 0.01
  summary = experiments.get("small_inception")(config, directory)
  json.dumps(summary, allow_nan=False)
  assert summary.keys() == {
    *("num_classes", "runs", "steps", "seconds"),
    *("chance", "steps_per_epoch", "arms"),
  }
  assert (summary["runs"], summary["chance"]) == (4 * 2, 0.1)
  assert summary["steps_per_epoch"] == pytest.approx(1442 / 32)
  assert summary["arms"].keys() == set(config.arms)
  # With batch normalization 0.1 + 4 · 80 · 0.01 is beyond its 0.95; without it is 0.9.
  assert summary["arms"]["batch_norm"]["final_top1"] == [0.95, 0.95]
  assert summary["arms"]["neither"]["final_top1"] == pytest.approx([0.9, 0.9])
  assert summary["arms"]["neither"]["train_top1"] == pytest.approx([0.92, 0.92])
  assert directory.read("config.json") == json.loads(config.to_json())


def test_training_that_diverged(config, directory, trained_configs):
  """At the config's own rate what is made up diverges without batch normalization."""
  arms = small_inception.run(config, directory)["arms"]
  assert arms["decay"]["diverged_at"] == [30]
  assert (arms["decay"]["final_top1"], arms["decay"]["train_top1"]) == ([0.0], [None])
  assert arms["batch_norm"]["diverged_at"] == [None]


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("base.batch_size", 0, r"config\.base\.batch_size is 0; it must be a whole number"),
    ("base.data.name", "digit", r"no data set 'digit'.* Did you mean 'digits'"),
    ("seeds", (), r"config\.seeds is \(\); it must be a list that is not empty"),
  ],
)
def test_mistakes_are_found_before_anything_is_trained(
  config, directory, trained_configs, field, value, message
):
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=message):
    small_inception.run(config, directory)
  assert not trained_configs
  assert not directory.path.exists()


@pytest.mark.slow
def test_of_trained_networks(config, directory, monkeypatch):
  """The config with the tiny network, on some of the embedded digits."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config.base.update(batch_size=8, duration="6 steps", eval_every="3 steps", log_every="3 steps")
  config.base.update(checkpoint_every="0 steps", eval_batch_size=32)
  config.base.data.update(train_split="train[:64]", eval_split="test[:32]")
  summary = experiments.get("small_inception")(config, directory)
  directory.write("summary.json", {"experiment": "small_inception", **summary})
  assert (summary["num_classes"], summary["runs"], summary["steps"]) == (10, 4, 24)
  for name, row in summary["arms"].items():
    found = learning_curves.read(directory, learning_curves.run_name(name, 1.0, 0))
    assert found.steps == [3, 6]
    assert row["final_top1"] == [found.top1[-1]]
    assert 0 <= row["train_top1"][0] <= 1
    assert np.isfinite(found.loss).all()
  assert "4 runs took" in present(directory).result
