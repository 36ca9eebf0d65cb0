"""Arms that are measured at their checkpoints: each once, and the checkpoints go afterwards."""

import fake_training
import ml_collections
import numpy as np
import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import measured_runs
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import loop, train


@pytest.fixture
def config():
  config = measured_runs.config_of(train_config())
  config.base.optimizer.learning_rate = 0.001
  config.arms = ml_collections.ConfigDict(
    {"slow": {}, "fast": {"optimizer": {"learning_rate": 0.002}}}
  )
  config.seeds = (0, 1)
  config.experiment = "aux_heads"
  return config


@pytest.fixture
def directory(scratch, tmp_path, monkeypatch):
  def run(config, directory):
    for step in (10, 40):
      (directory.checkpoints / str(step)).mkdir(parents=True)
    return fake_training.run(config, directory)

  monkeypatch.setattr(train, "run", run)
  return RunDirectory(tmp_path / "comparison")


class Measure:
  """Of a run its seed, and the checkpoints that were there."""

  def __init__(self):
    self.seen = []

  def __call__(self, config, run):
    self.seen.append(run.path.name)
    return {"seed": config.seed, "steps": run.saved_steps()}


def test_every_arm_with_every_seed(config, directory):
  trained, totals = measured_runs.train(config, directory, Measure())
  assert trained.keys() == {"slow", "fast"}
  for runs in trained.values():
    assert [each.measured for each in runs] == [
      {"seed": 0, "steps": [10, 40]},
      {"seed": 1, "steps": [10, 40]},
    ]
    assert runs[0].curve.steps == list(fake_training.STEPS)
  assert trained["fast"][0].curve.best_top1 > trained["slow"][0].curve.best_top1
  assert totals.pop("seconds") < 10
  assert totals == {"runs": 4, "steps": 160, "num_classes": 10}


def test_checkpoints_go_once_they_are_measured(config, directory):
  measured_runs.train(config, directory, Measure())
  assert not list(directory.path.rglob("checkpoints"))
  names = {path.parent.name for path in directory.path.rglob(measured_runs.MEASUREMENTS)}
  assert names == {f"{arm}-seed_{seed}" for arm in ("slow", "fast") for seed in (0, 1)}


def test_nothing_is_done_again(config, directory):
  measure = Measure()
  first, _ = measured_runs.train(config, directory, measure)
  again, _ = measured_runs.train(config, directory, measure)
  assert again == first
  config.seeds = (0, 1, 5)
  measured_runs.train(config, directory, measure)
  assert len(measure.seen) == len(set(measure.seen)) == 6


def test_what_was_interrupted_while_it_was_measured_is_measured(config, directory):
  def interrupted(config, run):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    measured_runs.train(config, directory, interrupted)
  trained, _ = measured_runs.train(config, directory, Measure())
  assert trained["fast"][0].measured["steps"] == [10, 40]


def test_a_run_that_diverged_is_measured_as_far_as_it_came(config, directory, monkeypatch):
  def run(config, directory):
    directory.start(config)
    directory.write("model.json", {"num_classes": 10})
    (directory.checkpoints / "10").mkdir(parents=True)
    raise loop.DivergenceError("The loss is nan at step 13.", 13)

  monkeypatch.setattr(train, "run", run)
  trained, totals = measured_runs.train(config, directory, Measure())
  assert totals["steps"] == 4 * 13
  assert trained["slow"][0].curve.diverged_at == 13
  assert trained["slow"][0].measured["steps"] == [10]


def test_numbers_that_are_not_finite_come_back_as_none(config, directory):
  trained, _ = measured_runs.train(config, directory, lambda config, run: {"x": [np.inf, 1.0]})
  assert trained["slow"][0].measured == {"x": [None, 1.0]}


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("seeds", (), r"config\.seeds is empty; the comparison needs one"),
    ("arms", ml_collections.ConfigDict(), r"config\.arms is empty"),
    ("arms.fast.optimizer.learning_rate", -1.0, r"In the arm 'fast': config\.optimizer\.learning"),
  ],
)
def test_mistakes_are_found_before_anything_is_trained(config, directory, field, value, message):
  if field == "arms":
    config.arms = value
  else:
    config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=message):
    measured_runs.train(config, directory, Measure())
  assert not directory.path.exists()
