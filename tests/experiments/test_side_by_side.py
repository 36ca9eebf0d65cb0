"""Small networks trained on the same batches: steps, replicas, and the order of the examples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import side_by_side
from speedpaper_jax.experiments.side_by_side import Examples, SideBySide
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.mlp import MLP

RATE = 0.1
NETWORKS = {
  "without": MLP((5,), outputs=3),
  "with": MLP((5,), outputs=3, batch_norm=BatchNorm(decay=0.9), use_bias=False),
}
SEEDS = (7, 8, 9)


def examples(count):
  generator = np.random.default_rng(0)
  inputs = generator.normal(size=(count, 6)).astype("float32")
  return Examples(jnp.asarray(inputs), jnp.asarray(generator.integers(0, 3, count)))


EXAMPLES = examples(20)
BATCHES = np.stack(list(itertools.islice(side_by_side.batches(20, 8, seed=3), 6)))


def comparison_of(networks, **options):
  optimizer = optax.sgd(RATE, momentum=0.9)
  return SideBySide(networks, optimizer, side_by_side.cross_entropy, **options)


@pytest.fixture(scope="module")
def comparison():
  return comparison_of(NETWORKS)


@pytest.fixture(scope="module")
def drawn(comparison):
  """The initial states, a replica for each of the seeds."""
  return jax.device_get(comparison.initial_states(SEEDS, EXAMPLES.inputs[:1]))


def replicas(states, *numbers):
  return jax.tree.map(lambda x: jnp.asarray(x[list(numbers)]), states)


def assert_same(one, other, **tolerances):
  jax.tree.map(lambda a, b: assert_allclose(a, b, **tolerances), one, other)


class TestInitialStates:
  def test_one_seed_draws_the_same_kernels_in_all_networks(self, drawn):
    one, other = (drawn[name].params for name in NETWORKS)
    assert_array_equal(one["hidden_1"]["dense"]["kernel"], other["hidden_1"]["dense"]["kernel"])
    assert_array_equal(one["output"]["kernel"], other["output"]["kernel"])

  def test_every_seed_is_a_replica_of_its_own(self, drawn):
    for name, state in drawn.items():
      assert {len(leaf) for leaf in jax.tree.leaves(state)} == {len(SEEDS)}
      for number, seed in enumerate(SEEDS):
        expected = NETWORKS[name].init(jax.random.key(seed), EXAMPLES.inputs[:1], train=False)
        assert state.replica(number).keys() == {"params", "batch_stats"}
        assert_same(state.replica(number), {"batch_stats": {}} | expected, rtol=1e-6)

  def test_of_given_variables(self, comparison, drawn):
    for state in drawn.values():
      assert_same(comparison.state_of(state.variables), state, rtol=0)


class TestSteps:
  def test_go_down_the_gradient_of_the_batch_in_training(self, comparison, drawn):
    before = replicas(drawn, 0)["with"].replica(0)
    rows = BATCHES[0]

    def loss(params):
      logits, updated = NETWORKS["with"].apply(
        {**before, "params": params}, EXAMPLES.inputs[rows], train=True, mutable=["batch_stats"]
      )
      probabilities = jax.nn.softmax(logits)[np.arange(len(rows)), EXAMPLES.targets[rows]]
      return -jnp.mean(jnp.log(probabilities)), updated["batch_stats"]

    (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(before["params"])
    params = jax.tree.map(lambda x, grad: x - RATE * grad, before["params"], grads)
    states, losses = comparison.train(replicas(drawn, 0), EXAMPLES, rows[None])
    assert_allclose(losses["with"], [[value]], rtol=1e-5)
    assert_same(
      states["with"].replica(0), {"params": params, "batch_stats": batch_stats}, atol=1e-6
    )

  def test_many_in_one_call_equal_the_same_one_by_one(self, comparison, drawn):
    together, losses = comparison.train(replicas(drawn, 0), EXAMPLES, BATCHES)
    states, one_by_one = replicas(drawn, 0), []
    for rows in BATCHES:
      states, loss = comparison.train(states, EXAMPLES, rows[None])
      one_by_one.append(loss)
    assert_same(together, states, atol=1e-6)
    for name in NETWORKS:
      assert_allclose(losses[name], np.concatenate([loss[name] for loss in one_by_one]), rtol=1e-5)

  @pytest.mark.parametrize("program_steps", [1, 4])
  def test_the_length_of_a_program_makes_no_difference(self, comparison, drawn, program_steps):
    expected, losses = comparison.train(replicas(drawn, 0, 1), EXAMPLES, BATCHES)
    divided = comparison_of(NETWORKS, program_steps=program_steps)
    states, losses_divided = divided.train(replicas(drawn, 0, 1), EXAMPLES, BATCHES)
    assert_same(states, expected, atol=1e-6)
    assert_same(losses_divided, losses, rtol=1e-5)

  def test_replicas_do_not_affect_one_another(self, comparison, drawn):
    together, losses = comparison.train(replicas(drawn, 0, 1, 2), EXAMPLES, BATCHES)
    for number in range(len(SEEDS)):
      alone, losses_alone = comparison.train(replicas(drawn, number), EXAMPLES, BATCHES)
      for name in NETWORKS:
        assert losses[name].shape == (len(BATCHES), len(SEEDS))
        assert_allclose(losses[name][:, number], losses_alone[name][:, 0], rtol=1e-5)
        assert_same(together[name].replica(number), alone[name].replica(0), atol=1e-6)

  def test_networks_do_not_affect_one_another(self, comparison, drawn):
    together, _ = comparison.train(replicas(drawn, 0), EXAMPLES, BATCHES)
    alone = comparison_of({"with": NETWORKS["with"]})
    states, _ = alone.train({"with": replicas(drawn, 0)["with"]}, EXAMPLES, BATCHES)
    assert_same(together["with"], states["with"], atol=1e-6)

  def test_lower_the_loss(self, comparison, drawn):
    states = replicas(drawn, 0)
    for _ in range(10):
      states, _ = comparison.train(states, EXAMPLES, BATCHES)
    before = comparison.evaluate(replicas(drawn, 0), EXAMPLES)
    for name, (loss, _) in comparison.evaluate(states, EXAMPLES).items():
      assert loss[0] < before[name][0][0] / 2


class TestEvaluation:
  def test_outputs_and_losses_in_inference(self, comparison, drawn):
    for name, (losses, outputs) in comparison.evaluate(replicas(drawn, 0, 1), EXAMPLES).items():
      assert (losses.shape, outputs.shape) == ((2,), (2, 20, 3))
      for number in range(2):
        variables = drawn[name].replica(number)
        expected = NETWORKS[name].apply(variables, EXAMPLES.inputs, train=False)
        assert_allclose(outputs[number], expected, atol=1e-5)
        loss = side_by_side.cross_entropy(outputs[number], EXAMPLES.targets)
        assert_allclose(losses[number], loss, rtol=1e-5)

  def test_accuracies(self, comparison, drawn):
    found = comparison.accuracies(replicas(drawn, 0, 1), EXAMPLES)
    for name, (_, outputs) in comparison.evaluate(replicas(drawn, 0, 1), EXAMPLES).items():
      correct = np.argmax(outputs, -1) == EXAMPLES.targets
      assert_allclose(found[name], np.count_nonzero(correct, -1) / 20, rtol=1e-6)


class TestLosses:
  def test_cross_entropy_of_equal_logits(self):
    loss = side_by_side.cross_entropy(jnp.zeros((4, 10)), jnp.arange(4))
    assert loss == pytest.approx(np.log(10))

  def test_squared_error(self):
    outputs, values = jnp.array([[1.0], [2.0]]), jnp.array([[2.0], [5.0]])
    assert side_by_side.squared_error(outputs, values) == pytest.approx((1 + 9) / 2)


class TestBatches:
  @pytest.mark.parametrize("batch_size", [1, 3, 20, 64])
  def test_every_example_once_an_epoch(self, batch_size):
    """Batches cross the boundaries of epochs, and are never short."""
    count = -(-3 * 20 // batch_size)
    taken = list(itertools.islice(side_by_side.batches(20, batch_size, seed=0), count))
    assert {len(rows) for rows in taken} == {batch_size}
    rows = np.concatenate(taken)
    for epoch in range(3):
      assert sorted(rows[epoch * 20 : (epoch + 1) * 20]) == list(range(20))

  def test_orders_are_a_function_of_seed_and_epoch(self):
    def orders(seed):
      return [tuple(rows) for rows in itertools.islice(side_by_side.batches(50, 50, seed), 3)]

    assert orders(0) == orders(0)
    assert len({*orders(0), *orders(1), *orders(2)}) == 9

  def test_the_order_does_not_depend_on_the_batch_size(self):
    def first(batch_size):
      batches = side_by_side.batches(20, batch_size, seed=0)
      return np.concatenate(list(itertools.islice(batches, 60 // batch_size)))

    assert_array_equal(first(6), first(20))


class TestConfig:
  def test_optimizers(self):
    config = side_by_side.default_config()
    config.optimizer.update(learning_rate=0.5, momentum=0.9)
    gradient = jnp.array([2.0])
    steps = {}
    for name in ("sgd", "adam"):
      config.optimizer.name = name
      optimizer = side_by_side.build_optimizer(config)
      state = optimizer.init(gradient)
      first, state = optimizer.update(gradient, state)
      second, _ = optimizer.update(gradient, state)
      steps[name] = float(first[0]), float(second[0])
    assert steps["sgd"] == pytest.approx((-1.0, -1.9))
    assert steps["adam"] == pytest.approx((-0.5, -0.5), rel=1e-4)

  def test_an_unknown_optimizer(self):
    config = side_by_side.default_config()
    config.optimizer.name = "adan"
    with pytest.raises(
      UserError,
      match=r"^config.optimizer.name='adan' is unknown\. Did you mean 'adam'\? "
      r"Valid: 'sgd', 'adam'\.$",
    ):
      side_by_side.build_optimizer(config)

  def test_batch_normalization(self):
    config = side_by_side.default_config()
    config.batch_norm.update(decay=0.5, epsilon=1e-5)
    assert side_by_side.build_batch_norm(config) == BatchNorm(decay=0.5, epsilon=1e-5)
