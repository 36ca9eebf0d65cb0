"""configs/bn_init.py: a run and what it leaves, what it shows, and the same layers in PyTorch."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from packages import require

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import bn_init
from speedpaper_jax.models.mlp import MLP
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = ("without", "with")
FEW_INITIALIZERS = ("default", "kaiming")


def small_config(scratch):
  config = load("configs/bn_init.py")
  config.data.dir = str(scratch / "data")
  config.deep.update(initializers=FEW_INITIALIZERS, layers=3, units=8, seeds=2)
  config.trained.update(
    layers=2, units=8, scales=(0.01, 0.3, 1.0), learning_rates=(0.03, 0.3), seeds=2, steps=20
  )
  return config


@pytest.fixture(scope="module")
def ended(scratch, tmp_path_factory):
  """Summary and arrays of a small run on the embedded digits."""
  config = small_config(scratch)
  directory = RunDirectory(tmp_path_factory.mktemp("run"))
  summary = experiments.get("bn_init")(config, directory)
  assert config == small_config(scratch)  # it is the caller's
  assert directory.read("config.json") == json.loads(config.to_json())
  return summary, directory.read_arrays()


class TestRun:
  def test_summary(self, ended):
    summary, _ = ended
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {"steps", "seconds", "deep", "scales", "trained"}
    assert summary["steps"] == 2 * 20
    assert summary["scales"] == [0.01, 0.3, 1.0]
    assert summary["deep"].keys() == {*FEW_INITIALIZERS}
    for by_network in summary["deep"].values():
      assert by_network.keys() == {*NAMES}
    assert summary["trained"].keys() == {*NAMES}

  def test_arrays(self, ended):
    _, arrays = ended
    expected = {
      f"deep/{initializer}/{name}/{dtype}": (2, 3)
      for initializer in FEW_INITIALIZERS
      for name in NAMES
      for dtype in ("float32", "float64")
    }
    expected |= {f"searched/{name}": (2, 3, 2) for name in NAMES}
    expected |= {f"trained/{name}": (3, 2) for name in NAMES}
    expected |= {"scales": (3,), "learning_rates": (2,)}
    assert {name: array.shape for name, array in arrays.items()} == expected

  def test_the_summary_describes_the_deviations(self, ended):
    summary, arrays = ended
    for initializer in FEW_INITIALIZERS:
      for name in NAMES:
        by_dtype = [
          arrays[f"deep/{initializer}/{name}/{dtype}"] for dtype in ("float32", "float64")
        ]
        assert summary["deep"][initializer][name] == bn_init.describe_deviations(*by_dtype)

  def test_the_summary_has_the_best_rate_s_accuracies(self, ended):
    summary, arrays = ended
    for name in NAMES:
      accuracies = arrays[f"searched/{name}"]
      assert ((accuracies >= 0) & (accuracies <= 1)).all()
      assert_allclose(summary["trained"][name]["top1"], accuracies.mean(-1).max(0))
      assert_array_equal(arrays[f"trained/{name}"], bn_init.best_rates(accuracies))

  def test_an_unknown_initializer_is_refused_before_anything_is_written(self, scratch, tmp_path):
    config = small_config(scratch)
    config.deep.initializers = ("default", "kaimin")
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match=r"the unknown 'kaimin'\. Did you mean 'kaiming'\?"):
      bn_init.run(config, directory)
    assert not directory.path.exists()


@functools.cache
def deviations():
  """Of the config's deep networks, with one seed: initializer → name → dtype → [layers]."""
  config = load("configs/bn_init.py")
  config.deep.seeds = 1
  return {
    initializer: {
      name: {dtype: bn_init._deviations(config, network, dtype)[0] for dtype in bn_init.DTYPES}
      for name, network in bn_init.deep_networks(config, initializer).items()
    }
    for initializer in config.deep.initializers
  }


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
class TestAHundredLayers:
  @pytest.mark.parametrize("initializer", bn_init.INITIALIZERS)
  @pytest.mark.parametrize("dtype", bn_init.DTYPES)
  def test_with_batch_normalization_the_initial_scale_does_not_matter(self, initializer, dtype):
    found = deviations()[initializer]["with"][dtype]
    # Of a rectified standard normal it is √(1/2 - 1/2π) = 0.584.
    assert found[-1] == pytest.approx(0.58, abs=0.015)
    assert found == pytest.approx(np.full(100, 0.58), abs=0.025)

  @pytest.mark.parametrize(
    ("initializer", "expected"),
    # 16, 16,000, √2 and 1/√3 times that
    [("normal", 9.34), ("normal1000", 9340), ("kaiming", 0.826), ("default", 0.337)],
  )
  def test_without_it_the_first_layer_has_the_initial_scale(self, initializer, expected):
    for dtype in bn_init.DTYPES:
      found = deviations()[initializer]["without"][dtype]
      assert found[0] == pytest.approx(expected, rel=0.03)

  def test_kaiming_keeps_the_scale(self):
    assert 0.1 < deviations()["kaiming"]["without"]["float32"][-1] < 10

  def test_default_values_die_out(self):
    found = deviations()["default"]["without"]
    assert found["float32"][-1] < 1e-37
    assert 1e-42 < found["float64"][-1] < 1e-37

  def test_a_standard_normal_overflows(self):
    found = deviations()["normal"]["without"]
    first = 1 + np.argmin(np.isfinite(found["float32"]))
    assert 33 <= first <= 39
    assert np.isfinite(found["float64"]).all()

  def test_deviations_are_found_for_as_long_as_outputs_are_finite(self):
    """In float32 their squares would overflow three layers earlier."""
    found = deviations()["normal"]["without"]
    finite = found["float32"][np.isfinite(found["float32"])]
    assert finite[-1] > np.sqrt(np.finfo("float32").max)
    assert_allclose(finite, found["float64"][: len(finite)], rtol=1e-5)


class TestLayerDeviations:
  INPUTS = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")

  @pytest.mark.parametrize("name", NAMES)
  def test_of_all_outputs_of_a_rectified_layer(self, name):
    config = load("configs/bn_init.py")
    config.deep.update(layers=2, units=8)
    network = bn_init.deep_networks(config, "kaiming")[name]
    variables = network.init(jax.random.key(0), self.INPUTS, train=False)
    x, expected = self.INPUTS, []
    for layer in ("hidden_1", "hidden_2"):
      x = x @ variables["params"][layer]["dense"]["kernel"]
      if name == "with":
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
      x = np.maximum(x, 0)
      expected.append(np.std(x, ddof=1))
    assert_allclose(bn_init.layer_deviations(network, variables, self.INPUTS), expected, rtol=1e-5)

  def test_infinite_and_nan_outputs(self):
    network = MLP((2, 2), outputs=0, use_bias=False)
    inputs = np.ones((3, 2), "float32")

    def found(*kernels):
      params = {
        f"hidden_{number}": {"dense": {"kernel": jnp.array(kernel, jnp.float32)}}
        for number, kernel in enumerate(kernels, 1)
      }
      return bn_init.layer_deviations(network, {"params": params}, inputs)

    large, signs = np.full((2, 2), 1e38), np.array([[1, 1], [-1, 1]])
    assert_array_equal(found(large, large), [0, np.inf])
    assert_array_equal(found(2 * large, signs), [np.inf, np.nan])


class TestDescription:
  def test_medians_and_first_layers(self):
    float32 = np.array([[1, 2, 0, 0], [3, np.inf, np.nan, np.nan], [5, 6, 7, 8]])
    float64 = np.array([[1, 2, 3, 4e-40], [1, 2, 3, 5e-40], [1, 2, 3, 6e-40]])
    assert bn_init.describe_deviations(float32, float64) == {
      "first": 3.0,
      "last": None,
      "last_in_float64": 5e-40,
      "dead": [3, None, None],
      "overflow": [None, 2, None],
      "nan": [None, 3, None],
    }

  def test_best_rate_of_each_scale_on_average_of_the_seeds(self):
    accuracies = np.array([[[0.1, 0.2], [0.9, 0.1]], [[0.3, 0.2], [0.2, 0.4]]])  # [L, S, seeds]
    assert_array_equal(bn_init.best_rates(accuracies), [[0.3, 0.2], [0.9, 0.1]])


class TestTraining:
  def test_kernels_alone_are_scaled(self):
    variables = {
      "params": {"hidden_1": {"dense": {"kernel": jnp.array([[2.0], [3.0]])}}},
      "batch_stats": {"hidden_1": {"var": jnp.array([1.0, 1.0])}},
    }
    scaled = bn_init._scaled(variables, (0.1, 10.0))
    kernel = scaled["params"]["hidden_1"]["dense"]["kernel"]
    assert_allclose(kernel, [[0.2], [0.3], [20], [30]], rtol=1e-6)
    assert_array_equal(scaled["batch_stats"]["hidden_1"]["var"], np.ones(4))

  def test_images_have_mean_0_and_deviation_1(self, scratch):
    images = bn_init._images(small_config(scratch), "test")
    assert images.inputs.shape == (len(images.targets), 8 * 8)
    assert np.mean(images.inputs) == pytest.approx(0, abs=1e-5)
    assert np.std(images.inputs) == pytest.approx(1, abs=1e-5)


# What follows compares with PyTorch.
LAYERS, UNITS = 100, 256


@pytest.fixture
def torch():
  require()
  import torch

  torch.manual_seed(0)
  return torch


def torch_layer(torch, initializer, units=UNITS):
  layer = torch.nn.Linear(units, units, bias=False)
  if initializer == "normal":
    torch.nn.init.normal_(layer.weight)
  elif initializer == "normal1000":
    torch.nn.init.normal_(layer.weight, std=1000.0)
  elif initializer == "kaiming":
    torch.nn.init.kaiming_normal_(layer.weight)
  return layer


def torch_outputs(torch, layers, name, x):
  """Outputs of all rectified layers."""
  outputs = []
  with torch.no_grad():
    for layer in layers:
      x = layer.to(x.dtype)(x)
      if name == "with":
        x = torch.nn.BatchNorm1d(UNITS).to(x.dtype).train()(x)
      x = torch.relu(x)
      outputs.append(x)
  return outputs


def both_deviations(torch, initializer, name, dtype):
  """Ours and theirs, [layers], from PyTorch's weights."""
  layers = [torch_layer(torch, initializer) for _ in range(LAYERS)]
  inputs = np.random.default_rng(0).standard_normal((16, UNITS), np.float32)
  weights = [layer.weight.detach().numpy().T.astype(dtype) for layer in layers]
  network = bn_init.deep_networks(load("configs/bn_init.py"), initializer)[name]
  with jax.enable_x64(dtype == "float64"):
    variables = network.init(jax.random.key(0), inputs, train=False)
    variables = jax.tree.map(lambda x: x.astype(dtype), variables)
    for number, weight in enumerate(weights, 1):
      variables["params"][f"hidden_{number}"]["dense"]["kernel"] = jnp.asarray(weight)
    ours = bn_init.layer_deviations(network, variables, jnp.asarray(inputs, dtype))
  outputs = torch_outputs(torch, layers, name, torch.from_numpy(inputs).to(getattr(torch, dtype)))
  return ours, np.array([output.double().std().item() for output in outputs])


@pytest.mark.slow
class TestAgainstTorch:
  @pytest.mark.parametrize("initializer", ["default", "normal", "kaiming"])
  def test_without_batch_normalization(self, torch, initializer):
    ours, theirs = both_deviations(torch, initializer, "without", "float64")
    assert_allclose(ours, theirs, rtol=1e-8)

  @pytest.mark.parametrize("initializer", ["default", "normal", "kaiming"])
  def test_with_batch_normalization(self, torch, initializer):
    """A rounding error grows by a quarter in each layer, since 16 examples normalise each other."""
    ours, theirs = both_deviations(torch, initializer, "with", "float64")
    assert_allclose(ours[:70], theirs[:70], rtol=1e-8)
    assert_allclose(ours, theirs, rtol=1e-5)

  def test_a_standard_normal_overflows_in_the_same_layers(self, torch):
    ours, theirs = both_deviations(torch, "normal", "without", "float32")

    def first(holds):
      return 1 + np.argmax(holds) if holds.any() else None

    assert abs(first(~np.isfinite(ours)) - first(~np.isfinite(theirs))) <= 1
    assert abs(first(np.isnan(ours)) - first(np.isnan(theirs))) <= 1
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert_allclose(ours[both], theirs[both], rtol=1e-5)

  @pytest.mark.parametrize("initializer", ["default", "kaiming"])
  def test_in_float32(self, torch, initializer):
    """XLA takes numbers below the smallest normal one for zeros on CPUs, PyTorch does not."""
    ours, theirs = both_deviations(torch, initializer, "without", "float32")
    normal = theirs > 1e4 * np.finfo("float32").tiny  # most single outputs, too
    assert np.count_nonzero(normal) > 80
    assert_allclose(ours[normal], theirs[normal], rtol=1e-5)

  @pytest.mark.parametrize("initializer", bn_init.INITIALIZERS)
  def test_initial_values_are_distributed_alike(self, torch, initializer):
    theirs = torch_layer(torch, initializer).weight.detach().numpy()
    ours = np.asarray(bn_init.INITIALIZERS[initializer](jax.random.key(0), (UNITS, UNITS)))
    percentiles = [1, 10, 25, 75, 90, 99]
    assert_allclose(np.percentile(ours, percentiles), np.percentile(theirs, percentiles), rtol=0.05)
    assert np.mean(ours) == pytest.approx(0, abs=0.02 * float(np.std(theirs)))
    if initializer == "default":
      assert np.abs(ours).max() == pytest.approx(1 / 16, rel=1e-3)  # 1/√fan-in
