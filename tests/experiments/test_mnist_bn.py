"""configs/mnist_bn.py on the embedded digits: a run and what it leaves, and what Figure 1 shows."""

import json

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import mnist_bn
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = ("without", "with", "fixed")


def config_of(scratch, **changes):
  config = load("configs/mnist_bn.py:data=digits")
  config.data.dir = str(scratch / "data")
  config.update(changes)
  return config


@pytest.fixture(scope="module")
def ended(scratch, tmp_path_factory):
  """Summary and arrays of the first 600 steps, in which the network without BN learns nothing."""
  config = config_of(scratch, steps=610, measure_every=50, measured_examples=200)
  directory = RunDirectory(tmp_path_factory.mktemp("run"))
  summary = experiments.get("mnist_bn")(config, directory)
  assert directory.read("config.json") == json.loads(config.to_json())
  return summary, directory.read_arrays()


class TestRun:
  def test_summary(self, ended):
    summary, arrays = ended
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {"steps", "seconds", "networks"}
    assert summary["steps"] == 600  # of the last measurement
    assert summary["networks"] == {
      name: {"top1": pytest.approx(arrays[f"{name}/top1"][-1])} for name in NAMES
    }

  def test_arrays(self, ended):
    _, arrays = ended
    expected = {"step": (12,)}
    for name in NAMES:
      expected[f"{name}/top1"] = (12,)
      expected[f"{name}/percentiles"] = (12, 3, 100)
      for what in ("mean", "std", "drift", "unnormalized_drift"):
        expected[f"{name}/{what}"] = (12, 3)
    assert {name: array.shape for name, array in arrays.items()} == expected
    assert_array_equal(arrays["step"], np.arange(50, 650, 50))
    assert all(np.isfinite(array).all() for array in arrays.values())

  def test_percentiles_rise(self, ended):
    _, arrays = ended
    for name in NAMES:
      assert (np.diff(arrays[f"{name}/percentiles"], axis=1) >= 0).all()

  def test_no_step_to_measure_is_refused_before_anything_is_written(self, scratch, tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.measure_every is 250; it must be .* which is 9"):
      mnist_bn.run(config_of(scratch, steps=9), directory)
    assert not directory.path.exists()


class TestFigure1:
  def test_with_batch_normalization_more_digits_are_recognised(self, ended):
    summary, _ = ended
    accuracies = {name: result["top1"] for name, result in summary["networks"].items()}
    assert accuracies["without"] < 0.3
    assert accuracies["with"] > 0.85
    assert accuracies["fixed"] > 0.8

  def test_the_percentiles_are_apart_with_it_and_together_without(self, ended):
    _, arrays = ended

    def spread(name):
      percentiles = arrays[f"{name}/percentiles"]
      return np.median(percentiles[:, -1] - percentiles[:, 0], -1)

    assert (spread("without") < 0.1).all()
    assert (spread("with") > 1.5).all()

  def test_fixed_scales_and_biases_keep_mean_and_deviation(self, ended):
    _, arrays = ended
    assert_allclose(arrays["fixed/mean"], 0, atol=1e-4)
    assert_allclose(arrays["fixed/std"], 1, atol=0.05)  # ε counts where the variance is small
    assert np.abs(arrays["with/mean"]).max() > 1e-3
    assert_allclose(arrays["fixed/drift"], 0, atol=1e-4)


class TestNetworks:
  def test_draw_the_same_kernels(self, scratch):
    networks = mnist_bn.networks(config_of(scratch))
    assert networks.keys() == {*NAMES}
    inputs = np.zeros((1, 64), "float32")
    params = {
      name: network.init(jax.random.key(0), inputs, train=False)["params"]
      for name, network in networks.items()
    }
    for name in ("with", "fixed"):
      for number in (1, 2, 3):
        one, other = (params[of][f"hidden_{number}"]["dense"]["kernel"] for of in ("without", name))
        assert_array_equal(one, other)
    assert np.std(params["with"]["hidden_2"]["dense"]["kernel"]) == pytest.approx(0.04, rel=0.05)
    assert params["without"]["hidden_1"].keys() == {"dense"}
    assert params["with"]["hidden_1"]["batch_norm"].keys() == {"scale", "bias"}
    assert "batch_norm" not in params["fixed"]["hidden_1"]
    assert "bias" not in params["fixed"]["hidden_1"]["dense"]


def test_images_are_binary(scratch):
  examples = mnist_bn._binary_digits(config_of(scratch), "test")
  assert examples.inputs.shape == (len(examples.targets), 64)
  assert set(np.unique(examples.inputs)) == {0, 1}
