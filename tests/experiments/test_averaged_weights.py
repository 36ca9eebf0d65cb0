"""configs/averaged_weights.py: averaged weights with three kinds of batch statistics."""

import json

import fake_measurements
import fake_training
import jax
import ml_collections
import numpy as np
import pytest
import tiny

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import averaged_weights
from speedpaper_jax.experiments.measured_runs import MeasuredRun
from speedpaper_jax.inference import model_directory
from speedpaper_jax.models import registry
from speedpaper_jax.reports import present
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import loop, train

WAYS = ("moving", "averaged", "population", "raw")


def alike(*top1):
  """The same accuracies in each way."""
  return {way: list(top1) for way in WAYS}


def run_of(diverged_at=None, **accuracies):
  steps = [10 * (number + 1) for number in range(len(accuracies["raw"]))]
  curve = fake_training.curve(diverged_at=diverged_at)
  return MeasuredRun(curve, {"step": steps, **accuracies})


class TestCompare:
  def test_at_the_end_and_on_the_way(self):
    runs = [
      run_of(**{**alike(0.5, 0.7), "moving": [0.2, 0.8]}),
      run_of(**alike(0.1, 0.3)),
    ]
    found, arrays = averaged_weights.compare(runs)
    json.dumps(found, allow_nan=False)
    assert found["steps"] == [10, 20]
    assert found["moving"] == {"final_top1": [0.8, 0.3], "mean_top1": pytest.approx([0.5, 0.2])}
    assert found["raw"]["final_top1"] == [0.7, 0.3]
    np.testing.assert_array_equal(arrays["step"], [10, 20])
    np.testing.assert_array_equal(arrays["moving"], [[0.2, 0.8], [0.1, 0.3]])

  def test_what_a_run_that_diverged_has_not_come_to_counts_as_nothing(self):
    runs = [
      run_of(**alike(0.5, 0.7)),
      run_of(**alike(0.4), diverged_at=13),
    ]
    found, arrays = averaged_weights.compare(runs)
    assert found["diverged_at"] == [None, 13]
    assert found["population"] == {"final_top1": [0.7, 0.0], "mean_top1": pytest.approx([0.6, 0.2])}
    np.testing.assert_array_equal(arrays["raw"], [[0.5, 0.7], [0.4, np.nan]])


class TestRun:
  """Of the config, with measurements that are made up."""

  @pytest.fixture
  def directory(self, scratch, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", fake_training.run)
    monkeypatch.setattr(averaged_weights, "measure", fake_measurements.averaged_weights)
    return RunDirectory(tmp_path / "comparison")

  def test_summary(self, directory):
    config = load("configs/averaged_weights.py")
    summary = experiments.get("averaged_weights")(config, directory)
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {"num_classes", "runs", "steps", "seconds", "arms"}
    assert summary["runs"] == 4 * 3
    assert summary["arms"].keys() == set(config.arms)
    for arm in summary["arms"].values():
      assert arm["population"]["mean_top1"] == pytest.approx([0.9] * 3)
    assert directory.read_arrays()["batch-256-decay-0_9/raw"].shape == (3, 4)

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      ({"base.average_decay": 0.0}, r"'batch-.*': with config\.average_decay=0 there are no ave"),
      ({"base.batch_norm.enabled": False}, r"without batch normalization there are no statistics"),
      ({"base.average_decay": 1.5}, r"config\.base\.average_decay is 1\.5; it must be"),
    ],
  )
  def test_mistakes_are_found_before_anything_is_trained(self, directory, change, message):
    config = load("configs/averaged_weights.py")
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
      averaged_weights.run(config, directory)
    assert not directory.path.exists()

  def test_an_arm_whose_runs_all_diverged_at_once(self, directory, monkeypatch):
    def run(config, directory):
      directory.start(config)
      directory.write("model.json", {"num_classes": 10})
      raise loop.DivergenceError("The loss is nan at step 3.", 3)

    nothing = {"step": [], **alike()}
    monkeypatch.setattr(train, "run", run)
    monkeypatch.setattr(averaged_weights, "measure", lambda config, run: nothing)
    with pytest.raises(UserError, match=r"All runs of the arm 'batch-.*' diverged before their f"):
      averaged_weights.run(load("configs/averaged_weights.py"), directory)


@pytest.mark.slow
def test_of_a_trained_network(scratch, tmp_path, monkeypatch):
  """The tiny network on the embedded digits."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/averaged_weights.py")
  config.arms = ml_collections.ConfigDict({"batch-8": {"batch_size": 8}})
  config.seeds = (0,)
  config.base.update_from_flattened_dict({**tiny.SETTINGS, "duration": "20 steps"})
  config.base.update(checkpoint_every="10 steps", checkpoints_to_keep=2, average_decay=0.9)
  config.base.data.update(dir=str(scratch / "data"), eval_split="test[:64]")
  config.base.batch_norm.population_batches = 2
  directory = RunDirectory(tmp_path)
  evaluated = []
  call = averaged_weights.Evaluator.__call__

  def record(self, variables, *arguments):
    evaluated.append((self._config.batch_norm.inference, jax.device_get(variables)))
    return call(self, variables, *arguments)

  measure = averaged_weights.measure

  def record_and_measure(config, run):
    mesh = parallel.make_mesh()
    loaded.extend(
      jax.device_get(model_directory.load(run.path, mesh, 20, averaged=averaged).variables)
      for averaged in (True, False)
    )
    monkeypatch.setattr(averaged_weights.Evaluator, "__call__", record)
    return measure(config, run)

  loaded = []
  monkeypatch.setattr(averaged_weights, "measure", record_and_measure)
  summary = experiments.get("averaged_weights")(config, directory)
  directory.write("summary.json", {"experiment": "averaged_weights", **summary})
  assert summary["arms"]["batch-8"]["steps"] == [10, 20]
  average, raw = loaded
  kinds, variables = zip(*evaluated[-4:], strict=True)
  assert kinds == ("moving_average", "moving_average", "population", "moving_average")
  mixed = {"params": average["params"], "batch_stats": raw["batch_stats"]}
  for found, expected in zip(variables, (mixed, average, average, raw), strict=True):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  differ = jax.tree.map(lambda x, y: bool((x != y).any()), average, raw)
  assert all(jax.tree.leaves(differ))
  arrays = directory.read_arrays()
  assert all(np.isfinite(arrays[f"batch-8/{way}"]).all() for way in WAYS)
  assert present(directory).title.startswith("Averaged weights on digits")
