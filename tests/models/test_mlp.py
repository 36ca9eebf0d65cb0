"""Fully connected networks: their layers, their parameters, and what their nonlinearities see."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import bn_fc
from speedpaper_jax.models import features
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.mlp import MLP

BATCH_NORM = BatchNorm(decay=0.9, epsilon=1e-3)
INPUTS = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")


def variables_of(network, inputs=INPUTS, seed=0):
  return network.init(jax.random.key(seed), inputs, train=False)


def leaves(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def shapes(tree):
  return {path: leaf.shape for path, leaf in leaves(tree).items()}


def parameters(network, inputs):
  variables = jax.eval_shape(lambda: variables_of(network, inputs))
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


class TestLayers:
  def test_without_batch_normalization(self):
    variables = variables_of(MLP((5, 4), outputs=3))
    assert shapes(variables) == {
      "params/hidden_1/dense/bias": (5,),
      "params/hidden_1/dense/kernel": (6, 5),
      "params/hidden_2/dense/bias": (4,),
      "params/hidden_2/dense/kernel": (5, 4),
      "params/output/bias": (3,),
      "params/output/kernel": (4, 3),
    }

  def test_with_it(self):
    variables = variables_of(
      MLP((5,), outputs=3, batch_norm=BATCH_NORM, input_batch_norm=True, use_bias=False)
    )
    assert shapes(variables["params"]) == {
      "hidden_1/batch_norm/bias": (5,),
      "hidden_1/batch_norm/scale": (5,),
      "hidden_1/dense/kernel": (6, 5),
      "input_batch_norm/bias": (6,),
      "input_batch_norm/scale": (6,),
      "output/bias": (3,),
      "output/kernel": (5, 3),
    }
    assert shapes(variables["batch_stats"]) == {
      "hidden_1/batch_norm/mean": (5,),
      "hidden_1/batch_norm/var": (5,),
      "input_batch_norm/mean": (6,),
      "input_batch_norm/var": (6,),
    }

  def test_without_the_linear_layer(self):
    network = MLP((5, 4), outputs=0)
    variables = variables_of(network)
    assert variables["params"].keys() == {"hidden_1", "hidden_2"}
    outputs = network.apply(variables, INPUTS, train=False)
    assert outputs.shape == (32, 4)
    assert (outputs >= 0).all()

  def test_the_network_s_input_is_not_normalised_if_not_asked_for(self):
    variables = variables_of(MLP((5,), outputs=3, batch_norm=BATCH_NORM))
    assert "input_batch_norm" not in variables["params"]

  @pytest.mark.parametrize("use_bias", [True, False])
  def test_only_hidden_layers_can_be_without_biases(self, use_bias):
    params = variables_of(MLP((5, 4), outputs=3, use_bias=use_bias))["params"]
    assert ("bias" in params["hidden_1"]["dense"]) == use_bias
    assert ("bias" in params["hidden_2"]["dense"]) == use_bias
    assert "bias" in params["output"]

  def test_initial_values(self):
    network = MLP(
      (200, 200),
      outputs=50,
      kernel_init=jax.nn.initializers.normal(0.1),
      bias_init=jax.nn.initializers.constant(-0.2),
    )
    params = variables_of(network)["params"]
    for layer in (params["hidden_1"]["dense"], params["hidden_2"]["dense"], params["output"]):
      assert np.std(layer["kernel"]) == pytest.approx(0.1, rel=0.1)
      assert (layer["bias"] == np.float32(-0.2)).all()

  def test_one_key_draws_the_same_kernels_with_batch_normalization_and_without(self):
    networks = [
      MLP((5, 4), outputs=3),
      MLP((5, 4), outputs=3, batch_norm=BATCH_NORM, input_batch_norm=True, use_bias=False),
    ]
    one, other = (leaves(variables_of(network)["params"]) for network in networks)
    kernels = {path for path in one if path.endswith("kernel")}
    assert len(kernels) == 3
    for path in kernels:
      np.testing.assert_array_equal(one[path], other[path])


@pytest.mark.parametrize(
  ("input_batch_norm", "with_batch_norm"), [("no", 801 + 8 * 20), ("yes", 801 + 8 * 20 + 2)]
)
def test_parameters_of_bn_fc(input_batch_norm, with_batch_norm):
  """8 layers of 10 units from one input to one output; γ and β of every unit, and of the input."""
  networks = bn_fc.networks(load(f"configs/bn_fc.py:input_batch_norm={input_batch_norm}"))
  inputs = np.zeros((1, 1), "float32")
  linear = (1 + 1) * 10 + 7 * (10 + 1) * 10 + (10 + 1) * 1
  assert parameters(networks["without"], inputs) == linear == 801
  assert parameters(networks["with"], inputs) == with_batch_norm


class TestOutputs:
  @pytest.mark.parametrize(
    ("activation", "g"),
    [
      ("relu", lambda x: np.maximum(x, 0)),
      ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
      ("tanh", np.tanh),
    ],
  )
  def test_are_a_linear_function_of_the_last_hidden_layer(self, activation, g):
    network = MLP((5, 4), outputs=3, activation=activation)
    variables = variables_of(network)
    params = variables["params"]
    x = INPUTS.astype("float64")
    for layer in ("hidden_1", "hidden_2"):
      dense = params[layer]["dense"]
      x = g(x @ np.asarray(dense["kernel"], "float64") + dense["bias"])
    expected = x @ np.asarray(params["output"]["kernel"], "float64") + params["output"]["bias"]
    np.testing.assert_allclose(network.apply(variables, INPUTS, train=False), expected, atol=1e-5)

  def test_training_normalises_with_the_batch_and_moves_the_averages(self):
    network = MLP((5,), outputs=3, batch_norm=BATCH_NORM, use_bias=False)
    variables = variables_of(network)
    _, updated = network.apply(variables, INPUTS, train=True, mutable=["batch_stats"])
    wu = INPUTS @ variables["params"]["hidden_1"]["dense"]["kernel"]
    statistics = updated["batch_stats"]["hidden_1"]["batch_norm"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * wu.mean(0), atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * wu.var(0, ddof=1), rtol=1e-5)


class TestNonlinearityInputs:
  @pytest.mark.parametrize("batch_norm", [None, BATCH_NORM])
  def test_from_the_first_layer_to_the_last(self, batch_norm):
    """Not in alphabetical order, in which hidden_10 comes before hidden_2."""
    network = MLP((4,) * 12, outputs=3, batch_norm=batch_norm)
    found = features.nonlinearity_inputs(network, variables_of(network), INPUTS, train=False)
    assert list(found) == [f"hidden_{number}" for number in range(1, 13)]

  def test_in_a_compiled_program_too(self):
    network = MLP((4,) * 12, outputs=3, batch_norm=BATCH_NORM)
    variables = variables_of(network)

    @jax.jit
    def stacked(inputs):
      layers = features.nonlinearity_inputs(network, variables, inputs, train=True)
      return jnp.stack([*layers.values()])

    one_by_one = features.nonlinearity_inputs(network, variables, INPUTS, train=True)
    for number, x in enumerate(stacked(INPUTS), 1):
      np.testing.assert_allclose(x, one_by_one[f"hidden_{number}"], atol=1e-3)

  def test_are_wu_and_b(self):
    network = MLP((5, 4), outputs=3, activation="tanh", bias_init=jax.nn.initializers.constant(0.3))
    variables = variables_of(network)
    found = features.nonlinearity_inputs(network, variables, INPUTS, train=True)
    first = INPUTS @ variables["params"]["hidden_1"]["dense"]["kernel"] + 0.3
    np.testing.assert_allclose(found["hidden_1"], first, atol=1e-5)
    second = np.tanh(first) @ variables["params"]["hidden_2"]["dense"]["kernel"] + 0.3
    np.testing.assert_allclose(found["hidden_2"], second, atol=1e-5)

  @pytest.mark.parametrize("train", [True, False])
  def test_are_bn_of_wu(self, train):
    network = MLP((5,), outputs=3, batch_norm=BATCH_NORM, use_bias=False)
    layer = {"scale": jnp.linspace(1, 2, 5), "bias": jnp.linspace(-1, 1, 5)}
    statistics = {"mean": jnp.linspace(0, 1, 5), "var": jnp.linspace(1, 3, 5)}
    variables = variables_of(network)
    variables["params"]["hidden_1"]["batch_norm"] = layer
    variables["batch_stats"]["hidden_1"]["batch_norm"] = statistics
    found = features.nonlinearity_inputs(network, variables, INPUTS, train=train)
    wu = np.asarray(INPUTS @ variables["params"]["hidden_1"]["dense"]["kernel"])
    mean, var = (wu.mean(0), wu.var(0)) if train else (statistics["mean"], statistics["var"])
    expected = layer["scale"] * (wu - mean) / np.sqrt(var + 1e-3) + layer["bias"]
    np.testing.assert_allclose(found["hidden_1"], expected, atol=1e-5)

  def test_with_what_they_are_made_of(self):
    network = MLP((5, 4), outputs=3, batch_norm=BATCH_NORM, use_bias=False)
    variables = variables_of(network)
    linear, normalized = features.linear_outputs_and_nonlinearity_inputs(
      network, variables, INPUTS, train=True
    )
    assert list(linear) == list(normalized) == ["hidden_1", "hidden_2"]
    kernels = [variables["params"][layer]["dense"]["kernel"] for layer in linear]
    first = INPUTS @ kernels[0]
    np.testing.assert_allclose(linear["hidden_1"], first, atol=1e-5)
    second = np.maximum(normalized["hidden_1"], 0) @ kernels[1]
    np.testing.assert_allclose(linear["hidden_2"], second, atol=1e-5)

  def test_are_left_only_where_they_are_asked_for(self):
    network = MLP((5,), outputs=3, batch_norm=BATCH_NORM)
    _, left = network.apply(variables_of(network), INPUTS, train=True, mutable=["batch_stats"])
    assert left.keys() == {"batch_stats"}
    assert variables_of(network).keys() == {"params", "batch_stats"}
