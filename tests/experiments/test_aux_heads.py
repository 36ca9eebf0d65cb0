"""configs/aux_heads.py: first weights, gradients of the trunk, and what is said of the heads."""

import json

import fake_measurements
import fake_training
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import shortened
import tiny
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import aux_heads
from speedpaper_jax.experiments.measured_runs import MeasuredRun
from speedpaper_jax.models import features, registry
from speedpaper_jax.models.layers import ConvBlock, LayerSettings
from speedpaper_jax.reports import present
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train


class Network(nn.Module):
  """A stem, a module with a head on it, and a softmax layer."""

  num_classes: int
  settings: LayerSettings
  use_aux_heads: bool

  @nn.compact
  def __call__(self, images, *, train):
    x = ConvBlock(8, (3, 3), self.settings, strides=4, name="conv1")(images, train=train)
    x = ConvBlock(8, (1, 1), self.settings, name="inception_3a")(x, train=train)
    pooled = jnp.mean(x, (1, 2))
    if self.use_aux_heads and (train or self.is_initializing()):
      features.aux_logits(self, "aux1", nn.Dense(self.num_classes, name="aux1")(pooled))
    return nn.Dense(self.num_classes, name="logits")(pooled)


def create(name, dialect, *, num_classes, settings, use_aux_heads, **fields):
  return Network(num_classes, settings, use_aux_heads)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_heads_do_not_change_the_first_weights_of_the_trunk(name, monkeypatch):
  """Initial values are drawn of the seed and of the layers' names."""
  shortened.shorten(monkeypatch)
  size = {"googlenet": 32, "inception_v3": 75}[name]
  first = {}
  for heads in (False, True):
    network = registry.create(name, num_classes=3, width=0.05, use_aux_heads=heads)
    draw = jax.jit(lambda key, network=network: network.init(key, _images(size), train=False))
    first[heads] = draw(jax.random.key(4))["params"]
  assert set(first[True]) - set(first[False]) <= {"aux", "aux1", "aux2"}
  assert set(first[True]) > set(first[False])
  for module, params in first[False].items():
    jax.tree.map(assert_array_equal, params, first[True][module])


def _images(size):
  return jnp.zeros((1, size, size, 3))


def measured(steps, modules=("conv1", "conv2", "inception_3a", "logits"), factor=1.0):
  """The norm of each module is its number; the heads make all `factor` times as large."""
  main = [[1.0 * (number + 1) for number in range(len(modules))] for _ in steps]
  whole = (factor * np.array(main)).tolist()
  return {"step": list(steps), "modules": list(modules), "main": main, "whole": whole}


def run_of(measured, *top1, diverged_at=None):
  return MeasuredRun(fake_training.curve(*top1, diverged_at=diverged_at), measured)


class TestCompare:
  STEPS = (0, 10, 20)

  def test_of_one_network(self):
    found, arrays = aux_heads.compare(
      [run_of(measured(self.STEPS), 0.5, 0.7), run_of(measured(self.STEPS), 0.6, 0.4)],
      [
        run_of(measured(self.STEPS, factor=2.0), 0.5, 0.8),
        run_of(measured(self.STEPS, factor=8.0), 0.6),
      ],
    )
    json.dumps(found, allow_nan=False)
    assert found["modules"] == ["conv1", "conv2", "inception_3a", "logits"]
    assert found["stem"] == ["conv1", "conv2"]
    assert found["steps"] == [0, 10, 20]
    assert found["stem_factor"] == pytest.approx([4, 4, 4])
    assert found["without"] == {
      "best_top1": [0.7, 0.6],
      "final_top1": [0.7, 0.4],
      "diverged_at": [None, None],
    }
    assert found["with"]["best_top1"] == [0.8, 0.6]
    assert arrays.keys() == {"step", "without", "with/main", "with/whole"}
    assert_array_equal(arrays["step"], [0, 10, 20])
    assert_allclose(arrays["with/whole"][1, 2], [8, 16, 24, 32])

  def test_the_stem_is_one_vector(self):
    """Its factor is that of the norm over its modules, not of one of them."""
    run = measured((0,))
    run["whole"] = [[4.0, 2.0, 3.0, 4.0]]
    found, _ = aux_heads.compare([run_of(measured((0,)), 0.5)], [run_of(run, 0.5)])
    assert found["stem_factor"] == pytest.approx([np.sqrt(20 / 5)])

  def test_a_run_that_diverged(self):
    short = measured((0, 10), factor=2.0)
    short["whole"][1] = [None] * 4
    found, arrays = aux_heads.compare(
      [run_of(measured(self.STEPS), 0.5)], [run_of(short, diverged_at=13)]
    )
    json.dumps(found, allow_nan=False)
    assert found["stem_factor"] == [pytest.approx(2), None, None]
    assert found["with"]["final_top1"] == [0.0]
    assert np.isnan(arrays["with/whole"][0, 1:]).all()


class TestRun:
  """Of the config, with measurements that are made up."""

  @pytest.fixture
  def directory(self, scratch, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", fake_training.run)
    monkeypatch.setattr(aux_heads, "measure", fake_measurements.aux_heads)
    return RunDirectory(tmp_path / "comparison")

  def test_summary(self, directory):
    config = load("configs/aux_heads.py")
    summary = experiments.get("aux_heads")(config, directory)
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {
      *("num_classes", "runs", "steps", "seconds"),
      *("chance", "networks"),
    }
    assert (summary["runs"], summary["chance"]) == (12, 0.1)
    assert summary["networks"].keys() == {"googlenet", "inception_v3"}
    for network in summary["networks"].values():
      assert network["stem_factor"] == pytest.approx([3, 2, 2, 2, 2])
    assert directory.read_arrays()["inception_v3/with/main"].shape == (3, 5, 3)

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      ({"base.init_from": "somewhere"}, r"init_from is 'somewhere', but gradients are looked at"),
      ({"arms.googlenet-with.model.aux_heads": False}, r"aux_weight is 0.3, but the network has"),
      ({"base.batch_size": 0}, r"config\.base\.batch_size is 0; it must be"),
    ],
  )
  def test_mistakes_are_found_before_anything_is_trained(self, directory, change, message):
    config = load("configs/aux_heads.py")
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
      aux_heads.run(config, directory)
    assert not directory.path.exists()

  def test_an_arm_without_its_other(self, directory):
    config = load("configs/aux_heads.py")
    del config.arms["googlenet-with"]
    with pytest.raises(UserError, match=r"each network needs two, 'NAME-without' and 'NAME-with'"):
      aux_heads.run(config, directory)

  def test_an_arm_that_is_not_what_its_name_says(self, directory):
    config = load("configs/aux_heads.py")
    config.arms["googlenet-without"] = config.arms["googlenet-with"]
    with pytest.raises(UserError, match=r"'googlenet-without' has model.aux_heads=True, which is"):
      aux_heads.run(config, directory)


@pytest.mark.slow
def test_of_trained_networks(scratch, tmp_path, monkeypatch):
  """A small network on the embedded digits, from its first weights on."""
  monkeypatch.setattr(registry, "create", create)
  config = load("configs/aux_heads.py")
  config.arms = ml_collections.ConfigDict(
    {arm: config.arms[arm] for arm in ("googlenet-without", "googlenet-with")}
  )
  config.seeds = (0,)
  config.base.update_from_flattened_dict({**tiny.SETTINGS, "duration": "6 steps"})
  config.base.update(eval_every="3 steps", checkpoint_every="3 steps", checkpoints_to_keep=3)
  config.base.data.update(dir=str(scratch / "data"), eval_split="test[:32]")
  directory = RunDirectory(tmp_path)
  summary = experiments.get("aux_heads")(config, directory)
  directory.write("summary.json", {"experiment": "aux_heads", **summary})
  found = summary["networks"]["googlenet"]
  assert found["modules"] == ["conv1", "inception_3a", "logits"]
  assert found["stem"] == ["conv1"]
  assert found["steps"] == [0, 3, 6]
  arrays = directory.read_arrays()
  without, main, whole = (
    arrays[f"googlenet/{name}"][0] for name in ("without", "with/main", "with/whole")
  )
  assert np.isfinite(arrays["googlenet/without"]).all()
  # The same weights and images before the first step, and others after it.
  assert_allclose(without[0], main[0], rtol=1e-5)
  assert (np.abs(without[1:, :2] / main[1:, :2] - 1) > 1e-4).all()
  # What the head adds, it adds before it.
  assert_allclose(whole[:, 2], main[:, 2], rtol=1e-6)
  assert (np.abs(whole[:, :2] / main[:, :2] - 1) > 1e-3).all()
  assert found["stem_factor"] == pytest.approx(whole[:, 0] / main[:, 0])
  assert present(directory).title == "Auxiliary heads on digits: gradients and accuracy"
