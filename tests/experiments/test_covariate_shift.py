"""configs/covariate_shift.py: what a run leaves, with two convolutions in Inception's place."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import covariate_shift, nonlinearity_statistics
from speedpaper_jax.models import registry
from speedpaper_jax.models.layers import ConvBlock, LayerSettings
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = ("without", "with")


class TwoConvolutions(nn.Module):
  num_classes: int
  settings: LayerSettings

  @nn.compact
  def __call__(self, images, *, train):
    x = ConvBlock(8, (3, 3), self.settings, strides=4, name="conv_2")(images, train=train)
    x = ConvBlock(6, (3, 3), self.settings, strides=2, name="conv_10")(x, train=train)
    return nn.Dense(self.num_classes, name="logits")(x.mean((1, 2)))


def create(name, *, num_classes, settings):
  """In place of `registry.create`."""
  assert name == "bn_inception"
  return TwoConvolutions(num_classes, settings)


def small_config(scratch):
  config = load("configs/covariate_shift.py")
  config.update(steps=7, measure_every=3, batch_size=8, measured_examples=16)
  config.data.update(
    dir=str(scratch / "data"), image_size=16, train_split="train[:64]", eval_split="test[:40]"
  )
  return config


@pytest.fixture(scope="module")
def ended(scratch, tmp_path_factory):
  """Summary and arrays."""
  config = small_config(scratch)
  directory = RunDirectory(tmp_path_factory.mktemp("run"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", create)
    summary = experiments.get("covariate_shift")(config, directory)
  assert directory.read("config.json") == json.loads(config.to_json())
  return summary, directory.read_arrays()


class TestRun:
  def test_summary(self, ended):
    summary, arrays = ended
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {"steps", "seconds", "layers", "networks"}
    assert summary["steps"] == 6  # of the last measurement
    assert summary["layers"] == ["conv_2", "conv_10"]
    assert summary["networks"] == {
      name: {
        "top1": pytest.approx(arrays[f"{name}/top1"][-1]),
        "drift": pytest.approx(np.median(arrays[f"{name}/drift"])),
        "unnormalized_drift": pytest.approx(np.median(arrays[f"{name}/unnormalized_drift"])),
      }
      for name in NAMES
    }

  def test_arrays(self, ended):
    _, arrays = ended
    expected = {"step": (2,)}
    for name in NAMES:
      expected[f"{name}/top1"] = (2,)
      for what in ("mean", "std", "drift", "unnormalized_drift"):
        expected[f"{name}/{what}"] = (2, 2)
    assert {name: array.shape for name, array in arrays.items()} == expected
    assert_array_equal(arrays["step"], [3, 6])
    assert all(np.isfinite(array).all() for array in arrays.values())

  def test_the_inputs_are_normalised_in_one_network_and_drift_in_both(self, ended):
    _, arrays = ended
    assert_allclose(arrays["with/std"], 1, atol=0.1)
    assert_allclose(arrays["with/mean"], 0, atol=0.1)
    assert_array_equal(arrays["without/drift"], arrays["without/unnormalized_drift"])
    for name in NAMES:
      assert (arrays[f"{name}/drift"] > 0).all()
    assert (arrays["with/drift"] < arrays["with/unnormalized_drift"]).all()

  def test_no_step_to_measure_is_refused_before_anything_is_written(self, scratch, tmp_path):
    config = small_config(scratch)
    config.measure_every = 8
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.measure_every is 8; it must be .* which is 7"):
      covariate_shift.run(config, directory)
    assert not directory.path.exists()


def test_the_networks_differ_in_batch_normalization_alone():
  """Those of Figure 5."""
  networks = covariate_shift.networks(load("configs/covariate_shift.py"), num_classes=10)
  images = jnp.zeros((2, 32, 32, 3))

  def shapes(network):
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return variables, {
      jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves
    }

  (without, one), (with_, other) = (shapes(networks[name]) for name in NAMES)
  layers = nonlinearity_statistics.layer_names(networks["with"], images)
  assert layers == nonlinearity_statistics.layer_names(networks["without"], images)
  assert "batch_stats" not in without
  assert len(jax.tree.leaves(with_["batch_stats"])) == 2 * len(layers)
  assert set(one) - set(other) == {f"{layer}/conv/bias" for layer in layers}
  assert set(other) - set(one) == {
    f"{layer}/batch_norm/{name}" for layer in layers for name in ("scale", "bias")
  }
  assert {path: one[path] for path in set(one) & set(other)} == {
    path: other[path] for path in set(one) & set(other)
  }


def test_images_are_resized_and_normalised(scratch):
  examples = covariate_shift._images(small_config(scratch), "test[:5]")
  assert examples.inputs.shape == (5, 16, 16, 3)
  assert examples.targets.shape == (5,)
  assert examples.targets.dtype == jnp.int32
  assert -1 <= np.min(examples.inputs) < 0 < np.max(examples.inputs) <= 1
