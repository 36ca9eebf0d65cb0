"""Comparisons: the same search for every arm, and the runs that follow from it."""

import json
import math

import ml_collections
import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms, sweep
from speedpaper_jax.steps import build
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.storage.run_directory import RunDirectory


@pytest.fixture
def config():
  """Two arms: the higher the rate the better, up to what the normalised one can reach."""
  base = train_config()
  base.optimizer.learning_rate = 0.001
  base.batch_norm.enabled = False
  config = arms.config_of(base)
  config.experiment = "bn_variants"
  config.arms.plain = ml_collections.ConfigDict()
  config.arms.normalized = {"batch_norm": {"enabled": True}, "optimizer": {"learning_rate": 0.003}}
  config.rate_factors = (0.5, 2.0, 5.0)
  config.seeds = (3, 0, 1)
  return config


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "comparison")


class TestTrain:
  def test_all_rates_with_the_first_seed_and_the_best_with_the_others(
    self, config, directory, trained_configs
  ):
    arms.train(config, directory)
    searched = {(arm, factor, 3) for arm in config.arms for factor in (0.5, 2.0, 5.0)}
    chosen = {
      (arm, factor, seed)
      for arm, factor in (("plain", 5.0), ("normalized", 2.0))
      for seed in (0, 1)
    }
    names = {learning_curves.run_name(*run) for run in searched | chosen}
    assert set(trained_configs) == names
    assert {path.name for path in (directory.path / "runs").iterdir()} == names

  def test_every_run_has_its_arm_s_changes_its_rate_and_its_seed(
    self, config, directory, trained_configs
  ):
    arms.train(config, directory)
    for arm, factor, seed in [("plain", 0.5, 3), ("normalized", 2.0, 1)]:
      found = trained_configs[learning_curves.run_name(arm, factor, seed)]
      assert found.batch_norm.enabled == (arm == "normalized")
      rate = {"plain": 0.001, "normalized": 0.003}[arm]
      assert found.optimizer.learning_rate == pytest.approx(factor * rate)
      assert found.seed == seed
      found.batch_norm.enabled = False
      found.update(seed=0, optimizer={"learning_rate": 0.001})
      assert found == build.resolve(config.base)

  def test_what_only_the_experiment_knows_is_in_the_runs_and_not_in_the_comparison(
    self, config, directory, trained_configs
  ):
    def complete(run):
      run.init_from = f"weights of {run.seed}"
      return run

    arms.train(config, directory, complete)
    for name, found in trained_configs.items():
      assert found.init_from == f"weights of {name[-1]}"
    assert directory.read("config.json") == json.loads(config.to_json())

  def test_arms_have_their_curves(self, config, directory, trained_configs):
    trained, _ = arms.train(config, directory)
    assert {name: arm.rate_factor for name, arm in trained.items()} == {
      "plain": 5.0,
      "normalized": 2.0,
    }
    for arm in trained.values():
      assert list(arm.searched) == [0.5, 2.0, 5.0]
      assert len(arm.by_seed) == 3
      assert arm.by_seed[0] == arm.searched[arm.rate_factor]
    # Seed s learns s tenths faster.
    best = [curve.best_top1 for curve in trained["plain"].by_seed]
    assert best == pytest.approx([0.62, 0.5, 0.54])
    best = [curve.best_top1 for curve in trained["normalized"].searched.values()]
    assert best == pytest.approx([0.724, 0.95, 0.95])

  def test_totals(self, config, directory, trained_configs):
    _, totals = arms.train(config, directory)
    assert totals.keys() == {"num_classes", "runs", "steps", "seconds"}
    assert totals["num_classes"] == 10
    assert totals["runs"] == 2 * (3 + 2)
    assert totals["steps"] == 10 * 40
    assert totals["seconds"] > 0

  def test_runs_that_are_there_are_not_done_again(self, config, directory, trained_configs):
    first = arms.train(config, directory)
    trained_configs.clear()
    assert arms.train(config, directory) == first
    assert not trained_configs

  def test_more_seeds_in_the_same_directory(self, config, directory, trained_configs):
    """Only the new runs are done, and config.json is that of the comparison that ended last."""
    config.seeds = (3,)
    arms.train(config, directory)
    trained_configs.clear()
    config.seeds = (3, 7)
    trained, totals = arms.train(config, directory)
    assert set(trained_configs) == {
      learning_curves.run_name("plain", 5.0, 7),
      learning_curves.run_name("normalized", 2.0, 7),
    }
    assert [len(arm.by_seed) for arm in trained.values()] == [2, 2]
    assert totals["runs"] == 2 * (3 + 1)
    assert directory.read("config.json") == json.loads(config.to_json())

  def test_runs_of_other_rates_in_the_same_directory_do_not_count(
    self, config, directory, trained_configs
  ):
    arms.train(config, directory)
    config.rate_factors = (0.5,)
    trained, totals = arms.train(config, directory)
    assert {arm.rate_factor for arm in trained.values()} == {0.5}
    assert totals["runs"] == 2 * 3

  @pytest.mark.parametrize("field", ["arms", "rate_factors", "seeds"])
  def test_nothing_to_train(self, config, directory, field):
    config[field] = ml_collections.ConfigDict() if field == "arms" else ()
    with pytest.raises(UserError, match=rf"^config\.{field} is empty; the comparison needs one at"):
      arms.train(config, directory)
    assert not directory.path.exists()


class TestBestFactor:
  @staticmethod
  def curve(top1, loss=(1.0,), diverged_at=None):
    return LearningCurve(range(1, len(top1) + 1), top1, loss, None, diverged_at)

  def test_the_best_accuracy_at_any_time(self):
    searched = {0.5: self.curve([0.4, 0.5]), 1.0: self.curve([0.6, 0.1]), 2.0: self.curve([0.55])}
    assert arms.best_factor(searched) == 1.0

  def test_of_equal_accuracies_the_one_with_the_lowest_loss(self):
    searched = {
      0.5: self.curve([0.5, 0.5], [0.9, 0.6]),
      1.0: self.curve([0.5, 0.2], [0.4, 0.8]),
      2.0: self.curve([0.5, 0.2], [0.5, 0.7]),
    }
    assert arms.best_factor(searched) == 1.0

  def test_of_entirely_equal_ones_the_first(self):
    assert arms.best_factor({2.0: self.curve([0.5]), 1.0: self.curve([0.5])}) == 2.0

  def test_one_that_diverged_only_where_all_did(self):
    high = self.curve([0.9], [math.nan], diverged_at=3)
    assert arms.best_factor({3.0: high, 1.0: self.curve([0.4])}) == 1.0
    assert arms.best_factor({3.0: high, 1.0: self.curve([0.4], diverged_at=2)}) == 3.0

  def test_runs_without_an_evaluation_come_last(self):
    nothing = self.curve([], [])
    assert arms.best_factor({1.0: nothing, 0.5: self.curve([0.0])}) == 0.5
    assert arms.best_factor({1.0: nothing, 0.5: nothing}) == 1.0


def test_a_comparison_begins_with_one_seed_and_no_search():
  base = train_config()
  config = arms.config_of(base)
  assert config.base == base
  assert (config.rate_factors, config.seeds, len(config.arms)) == ((1.0,), (0,), 0)


def test_the_base_stays_as_it_was(config):
  before = config.base.copy_and_resolve_references()
  arms.run_config(config, "normalized", 5.0, 9)
  assert config.base == before
  assert sweep.changes(before, config.base).to_dict() == {}
