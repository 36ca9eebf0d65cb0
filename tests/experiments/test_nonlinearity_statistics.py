"""How the inputs of nonlinearities are distributed, and how far a step moves them."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import nonlinearity_statistics, side_by_side
from speedpaper_jax.experiments.nonlinearity_statistics import Distribution, Statistics
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide
from speedpaper_jax.models import features, registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ConvBlock, LayerSettings
from speedpaper_jax.models.mlp import MLP

BATCH_NORM = BatchNorm(decay=0.9, epsilon=1e-10)
WITHOUT = MLP((5, 4), outputs=3, activation="tanh")
WITH = MLP((5, 4), outputs=3, activation="tanh", batch_norm=BATCH_NORM)
INPUTS = np.random.default_rng(0).normal(1, 2, (30, 6)).astype("float32")


def variables_of(network, inputs=INPUTS):
  return network.init(jax.random.key(0), inputs[:1], train=False)


class TestMeasure:
  def test_a_feature_s_mean_and_deviation(self):
    variables = variables_of(WITHOUT)
    layers = features.nonlinearity_inputs(WITHOUT, variables, INPUTS, train=False)
    found = nonlinearity_statistics.measure(WITHOUT, variables, INPUTS).inputs
    assert [mean.shape for mean in found.mean] == [(5,), (4,)]
    for x, mean, std in zip(layers.values(), found.mean, found.std, strict=True):
      assert_allclose(mean, np.mean(x, 0), atol=1e-5)
      assert_allclose(std, np.std(x, 0), rtol=1e-4)

  def test_of_feature_maps_over_examples_and_locations(self):
    network = ConvBlock(7, (3, 3), LayerSettings(batch_norm=None))
    images = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    variables = network.init(jax.random.key(0), images, train=False)
    found = nonlinearity_statistics.measure(network, variables, images).inputs
    _, left = network.apply(variables, images, train=False, mutable=["nonlinearity_inputs"])
    x = left["nonlinearity_inputs"]["x"]
    assert x.shape == (2, 5, 5, 7)
    assert_allclose(found.mean[0], np.mean(x, (0, 1, 2)), atol=1e-5)
    assert_allclose(found.std[0], np.std(x, (0, 1, 2)), rtol=1e-4)

  def test_batch_normalization_makes_them_0_and_1(self):
    """With γ = 1 and β = 0, whatever the moving averages are."""
    variables = variables_of(WITH)
    found = nonlinearity_statistics.measure(WITH, variables, INPUTS).inputs
    for mean, std in zip(found.mean, found.std, strict=True):
      assert_allclose(mean, 0, atol=1e-5)
      assert_allclose(std, 1, rtol=1e-4)

  def test_what_it_makes_them_of_is_measured_too(self):
    variables = variables_of(WITH)
    wu = INPUTS @ variables["params"]["hidden_1"]["dense"]["kernel"]
    found = nonlinearity_statistics.measure(WITH, variables, INPUTS).unnormalized
    assert_allclose(found.mean[0], np.mean(wu, 0), atol=1e-5)
    assert_allclose(found.std[0], np.std(wu, 0), rtol=1e-4)

  def test_without_it_both_are_the_same(self):
    found = nonlinearity_statistics.measure(WITHOUT, variables_of(WITHOUT), INPUTS)
    jax.tree.map(assert_array_equal, found.inputs, found.unnormalized)

  def test_scale_and_bias_are_part_of_what_is_measured(self):
    variables = variables_of(WITH)
    layer = variables["params"]["hidden_2"]["batch_norm"]
    layer["scale"], layer["bias"] = jnp.array([1.0, 2, 3, 4]), jnp.array([5.0, 6, 7, 8])
    found = nonlinearity_statistics.measure(WITH, variables, INPUTS).inputs
    assert_allclose(found.mean[1], layer["bias"], rtol=1e-4)
    assert_allclose(found.std[1], layer["scale"], rtol=1e-4)


class TestLayerNames:
  def test_are_in_the_order_of_the_measurements(self):
    network = MLP((3,) * 11, outputs=3)
    names = nonlinearity_statistics.layer_names(network, INPUTS)
    assert names == [f"hidden_{number}" for number in range(1, 12)]
    found = nonlinearity_statistics.measure(network, variables_of(network), INPUTS)
    assert len(found.inputs.mean) == len(names)

  def test_of_an_inception_network(self):
    network = registry.create("bn_inception", num_classes=10, settings=LayerSettings())
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    names = nonlinearity_statistics.layer_names(network, images)
    assert names[0].startswith("conv")
    assert names.index("inception_3a/conv_1x1") < names.index("inception_4a/conv_1x1")
    assert len(names) == len(set(names))


def random_distribution(seed):
  generator = np.random.default_rng(seed)
  return Distribution(
    mean=tuple(generator.normal(size=units).astype("float32") for units in (5, 4)),
    std=tuple(generator.uniform(0.5, 2, units).astype("float32") for units in (5, 4)),
  )


class TestByLayer:
  BEFORE = Statistics(inputs=random_distribution(0), unnormalized=random_distribution(1))
  AFTER = Statistics(inputs=random_distribution(2), unnormalized=random_distribution(3))

  def test_are_averages_over_the_features(self):
    before, after = self.BEFORE, self.AFTER
    found = nonlinearity_statistics.by_layer(before, after)
    assert found.keys() == {"mean", "std", "drift", "unnormalized_drift"}
    assert_allclose(found["mean"], [np.mean(mean) for mean in before.inputs.mean], rtol=1e-5)
    assert_allclose(found["std"], [np.mean(std) for std in before.inputs.std], rtol=1e-5)
    for what, one, other in [
      ("drift", before.inputs, after.inputs),
      ("unnormalized_drift", before.unnormalized, after.unnormalized),
    ]:
      expected = [
        np.mean(np.abs(moved - mean) / std)
        for mean, std, moved in zip(one.mean, one.std, other.mean, strict=True)
      ]
      assert_allclose(found[what], expected, rtol=1e-5)

  def test_nothing_drifts_where_nothing_moves(self):
    still = nonlinearity_statistics.by_layer(self.BEFORE, self.BEFORE)
    assert_array_equal(still["drift"], [0, 0])
    assert_array_equal(still["unnormalized_drift"], [0, 0])

  def test_a_constant_feature_that_stays_does_not_drift(self):
    def statistics(*mean):
      distribution = Distribution(mean=(jnp.array(mean),), std=(jnp.array([0.0, 1.0]),))
      return Statistics(inputs=distribution, unnormalized=distribution)

    found = nonlinearity_statistics.by_layer(statistics(2.0, 3.0), statistics(2.0, 4.0))
    assert_allclose(found["drift"], [0.5])

  def test_drift_does_not_depend_on_the_unit(self):
    def scaled(statistics):
      return jax.tree.map(lambda x: 1000 * x, statistics)

    one = nonlinearity_statistics.by_layer(self.BEFORE, self.AFTER)
    other = nonlinearity_statistics.by_layer(scaled(self.BEFORE), scaled(self.AFTER))
    assert_allclose(other["drift"], one["drift"], rtol=1e-5)
    assert_allclose(other["std"], 1000 * one["std"], rtol=1e-5)


class TestConfig:
  @pytest.mark.parametrize(("measure_every", "steps"), [(2, 2), (2, 100), (100, 100)])
  def test_intervals(self, measure_every, steps):
    nonlinearity_statistics.check_config(
      ml_collections.ConfigDict({"measure_every": measure_every, "steps": steps})
    )

  @pytest.mark.parametrize(("measure_every", "steps"), [(0, 10), (1, 10), (11, 10), (2, 0)])
  def test_no_step_to_measure(self, measure_every, steps):
    config = ml_collections.ConfigDict({"measure_every": measure_every, "steps": steps})
    message = (
      rf"config\.measure_every is {measure_every}; it must be at least 2 and at most config\.steps,"
      rf" which is {steps}\.$"
    )
    with pytest.raises(UserError, match=message):
      nonlinearity_statistics.check_config(config)


@pytest.fixture(scope="module")
def measured():
  """Seven steps, with a measurement at each third: the last step has none."""
  config = side_by_side.default_config()
  config.update(seed=5, batch_size=4)
  config.update(steps=7, measure_every=3, measured_examples=12)
  labels = jnp.asarray(np.arange(30) % 3)
  train, test = Examples(jnp.asarray(INPUTS), labels), Examples(jnp.asarray(INPUTS[:9]), labels[:9])
  comparison = SideBySide(
    {"without": WITHOUT, "with": WITH}, optax.sgd(0.1), side_by_side.cross_entropy
  )
  found = nonlinearity_statistics.train_and_measure(config, comparison, train, test)
  # The states' buffers are given away when the next steps are taken.
  return (
    comparison,
    train,
    test,
    [(measurement, jax.device_get(states)) for measurement, states in found],
  )


class TestTrainAndMeasure:
  def test_what_is_measured(self, measured):
    *_, found = measured
    assert [measurement["step"] for measurement, _ in found] == [3, 6]
    for measurement, _ in found:
      assert {name: values.shape for name, values in measurement.items()} == {
        "step": (),
        **{f"{name}/top1": () for name in ("without", "with")},
        **{
          f"{name}/{what}": (2,)
          for name in ("without", "with")
          for what in ("mean", "std", "drift", "unnormalized_drift")
        },
      }

  def test_across_the_last_step_of_each_interval(self, measured):
    comparison, train, test, found = measured
    batches = side_by_side.batches(30, 4, seed=5)
    states = comparison.initial_states([5], train.inputs[:1])
    for measurement, states_after in found:
      for _ in range(2):
        states, _ = comparison.train(states, train, next(batches)[None])
      before = jax.device_get(states)
      states, _ = comparison.train(states, train, next(batches)[None])
      accuracies = comparison.accuracies(states, test)
      for name, network in comparison.networks.items():
        expected = nonlinearity_statistics.by_layer(
          *(
            nonlinearity_statistics.measure(network, state[name].replica(0), train.inputs[:12])
            for state in (before, states)
          )
        )
        for what, values in expected.items():
          assert_allclose(measurement[f"{name}/{what}"], values, rtol=1e-3, atol=1e-5)
        assert measurement[f"{name}/top1"] == accuracies[name][0]
      jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-5), states, states_after)

  def test_arrays_have_a_row_for_each(self, measured):
    *_, found = measured
    measurements = [measurement for measurement, _ in found]
    arrays = nonlinearity_statistics.stack(measurements)
    assert arrays.keys() == measurements[0].keys()
    assert_array_equal(arrays["step"], [3, 6])
    assert_array_equal(arrays["with/drift"][1], measurements[1]["with/drift"])
    assert arrays["with/drift"].shape == (2, 2)
