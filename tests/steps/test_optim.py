"""Optimisers, schedules and L2, against PyTorch, TensorFlow's formulas and plain arithmetic."""

import inspect
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from speedpaper_jax.config.defaults import TRAIN, train_config
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.optimizers import OPTIONS
from speedpaper_jax.errors import UserError
from speedpaper_jax.steps import optim

RATE = 0.1
STEPS = 6


@pytest.fixture
def config():
  return train_config().optimizer


def make_params():
  generator = np.random.default_rng(0)
  return {
    "conv": {"kernel": generator.normal(size=(3, 3, 2, 4))},
    "batch_norm": {"scale": generator.normal(size=4), "bias": generator.normal(size=4)},
    "logits": {"kernel": generator.normal(size=(4, 5)), "bias": generator.normal(size=5)},
  }


def make_gradients():
  generator = np.random.default_rng(1)
  return [
    jax.tree.map(lambda p: generator.normal(size=p.shape), make_params()) for _ in range(STEPS)
  ]


def trained(config):
  """The parameters after each step at a constant rate."""
  return trained_by(optim.make_optimizer(config, optax.constant_schedule(RATE)))


def trained_by(optimizer):
  params = jax.tree.map(jnp.asarray, make_params())
  state = optimizer.init(params)
  history = []
  for gradient in make_gradients():
    updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, params)
    params = optax.apply_updates(params, updates)
    history.append(params)
  return history


def trained_by_torch(name, l2, **options):
  """The same by an optimiser of PyTorch, with L2 on the kernels."""
  torch = pytest.importorskip("torch")
  leaves, structure = jax.tree.flatten(make_params())
  leaves = [torch.nn.Parameter(torch.from_numpy(leaf)) for leaf in leaves]
  groups = [
    {"params": [leaf for leaf in leaves if leaf.ndim > 1], "weight_decay": l2},
    {"params": [leaf for leaf in leaves if leaf.ndim == 1]},
  ]
  optimizer = getattr(torch.optim, name)(groups, lr=RATE, **options)
  history = []
  for gradient in make_gradients():
    for leaf, leaf_gradient in zip(leaves, jax.tree.leaves(gradient), strict=True):
      leaf.grad = torch.from_numpy(leaf_gradient)
    optimizer.step()
    history.append(jax.tree.unflatten(structure, [leaf.detach().numpy().copy() for leaf in leaves]))
  return history


def assert_close(actual, expected, rtol=1e-12):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), actual, expected
  )


def test_only_kernels_are_decayed(config):
  assert optim.kernel_mask(make_params()) == {
    "conv": {"kernel": True},
    "batch_norm": {"scale": False, "bias": False},
    "logits": {"kernel": True, "bias": False},
  }
  config.l2 = 0.01
  optimizer = optim.make_optimizer(config, optax.constant_schedule(RATE))
  params = make_params()
  zeros = jax.tree.map(np.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  for layer, name in (("batch_norm", "scale"), ("batch_norm", "bias"), ("logits", "bias")):
    assert not updates[layer][name].any()
  for layer in ("conv", "logits"):
    np.testing.assert_allclose(
      updates[layer]["kernel"], -RATE * 0.01 * params[layer]["kernel"], rtol=1e-6
    )


@pytest.mark.usefixtures("float64")
def test_what_is_frozen_is_not_decayed_nor_is_its_size_clipped(config):
  config.update(l2=0.2, clip_norm=1.0)
  optimizer = optim.make_optimizer(config, optax.constant_schedule(RATE), frozen=("conv",))
  params = make_params()
  zeros = jax.tree.map(np.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  gradient = 0.2 * params["logits"]["kernel"]
  assert np.linalg.norm(gradient) < 1 < np.linalg.norm(0.2 * params["conv"]["kernel"])
  assert not updates["conv"]["kernel"].any()
  np.testing.assert_allclose(updates["logits"]["kernel"], -RATE * gradient, rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_a_smaller_rate_of_the_trunk_is_a_smaller_learning_rate(config, name):
  """Which PyTorch has as a group of parameters."""
  config.update(name=name, l2=0.01)
  heads = trained(config)
  config.trunk_rate = 0.2
  both = trained(config)
  config.trunk_rate = 1.0
  trunk = trained_by(optim.make_optimizer(config, optax.constant_schedule(0.2 * RATE)))
  for actual, of_heads, of_trunk in zip(both, heads, trunk, strict=True):
    # L2 is of the parameters themselves, each of which has had one rate.
    assert_close(actual["logits"], of_heads["logits"])
    assert_close(actual["conv"], of_trunk["conv"])
    assert_close(actual["batch_norm"], of_trunk["batch_norm"])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_and_l2_are_those_of_torch(config, momentum):
  """L2 is coupled: its gradient goes through the momentum."""
  config.update(name="sgd", sgd={"momentum": momentum}, l2=0.01)
  assert_close(trained(config), trained_by_torch("SGD", l2=0.01, momentum=momentum))


@pytest.mark.usefixtures("float64")
def test_adam_is_that_of_torch(config):
  config.update(name="adam", l2=0.01)
  assert_close(trained(config), trained_by_torch("Adam", l2=0.01))


@pytest.mark.usefixtures("float64")
def test_adagrad_is_that_of_torch_but_for_epsilon(config):
  """Optax adds ε = 1e-7 inside the square root of an accumulator that starts at 0.1."""
  config.update(name="adagrad", l2=0.01)
  expected = trained_by_torch("Adagrad", l2=0.01, initial_accumulator_value=0.1, eps=0)
  assert_close(trained(config), expected, rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("momentum", "decay", "epsilon"), [(0.9, 0.9, 1.0), (0.0, 0.8, 1e-3)])
def test_rmsprop_is_that_of_tensorflow(config, momentum, decay, epsilon):
  """`ApplyRMSProp` of TensorFlow 1, whose accumulator starts at one."""
  config.update(name="rmsprop", rmsprop={"momentum": momentum, "decay": decay, "eps": epsilon})

  params = make_params()
  mean_square = jax.tree.map(np.ones_like, params)
  velocity = jax.tree.map(np.zeros_like, params)
  expected = []
  for gradient in make_gradients():
    mean_square = jax.tree.map(lambda ms, g: ms + (g**2 - ms) * (1 - decay), mean_square, gradient)
    velocity = jax.tree.map(
      lambda v, g, ms: v * momentum + g * RATE / np.sqrt(epsilon + ms),
      velocity,
      gradient,
      mean_square,
    )
    params = jax.tree.map(np.subtract, params, velocity)
    expected.append(params)

  assert_close(trained(config), expected)


@pytest.mark.usefixtures("float64")
def test_the_norm_is_clipped_over_all_parameters_and_after_l2(config):
  config.update(sgd={"momentum": 0.0}, l2=0.5, clip_norm=0.25)
  params = make_params()
  gradient = make_gradients()[0]
  penalised = {
    layer: {
      name: g + (0.5 * params[layer][name] if name == "kernel" else 0) for name, g in of.items()
    }
    for layer, of in gradient.items()
  }
  norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(penalised)))
  assert norm > 0.25
  expected = jax.tree.map(lambda p, g: p - RATE * g * 0.25 / norm, params, penalised)
  assert_close(trained(config)[0], expected)


@pytest.mark.usefixtures("float64")
def test_a_gradient_below_the_limit_is_not_clipped(config):
  unclipped = trained(config)
  config.clip_norm = 1e3
  assert_close(trained(config), unclipped)


def test_an_unknown_optimizer_is_refused(config):
  config.name = "sdg"
  with pytest.raises(UserError, match=r"Optax has no optimizer 'sdg'\. Did you mean 'sgd'\?"):
    optim.make_optimizer(config, optax.constant_schedule(RATE))


@pytest.mark.parametrize("name", ["chain", "OptState", "adam_w", "losses"])
def test_what_is_no_optimizer_is_refused(config, name):
  config.name = name
  with pytest.raises(UserError, match=rf"Optax has no optimizer '{name}'"):
    optim.make_optimizer(config, optax.constant_schedule(RATE))


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_the_options_here_are_those_of_optax(config, name, options):
  assert options.keys() <= inspect.signature(getattr(optax, name)).parameters.keys()
  config.name = name
  optim.make_optimizer(config, optax.constant_schedule(RATE))


@pytest.mark.parametrize("name", ["lamb", "adamw", "lion", "nadam"])
def test_any_other_of_optax_s_is_taken_too(config, name):
  """With its defaults, or with the options of a section that a config file gives it."""
  config.update(name=name, l2=0.0)
  assert_close(trained(config), trained_by(getattr(optax, name)(RATE)))
  config[name] = {"b1": 0.5}
  assert_close(trained(config), trained_by(getattr(optax, name)(RATE, b1=0.5)))


@pytest.mark.parametrize("name", ["lbfgs"])
def test_one_that_needs_more_than_gradients_is_refused(config, name):
  config.name = name
  with pytest.raises(UserError, match=f"The optimizer '{name}' needs more than gradients"):
    optim.make_optimizer(config, optax.constant_schedule(RATE))


def test_an_option_that_the_optimizer_does_not_have_is_refused(config):
  config.update(name="lamb", lamb={"momentun": 0.5})
  with pytest.raises(UserError, match="'lamb' has no option 'momentun'"):
    optim.make_optimizer(config, optax.constant_schedule(RATE))


def rates(config, steps, *, batch_size=32, epoch_size=320, total_steps=100, **before):
  """The rate at `steps`; an epoch has ten of them."""
  durations = Durations(batch_size, epoch_size, **before)
  schedule = optim.make_schedule(config, durations, total_steps, durations.offset)
  return [float(schedule(jnp.int32(step))) for step in steps]


def test_the_constant_schedule(config):
  config.learning_rate = 0.3
  np.testing.assert_allclose(rates(config, [0, 1, 1000]), 0.3, rtol=1e-6)


def test_the_rate_grows_with_the_batch(config):
  config.update(learning_rate=0.3, base_batch_size=64)
  np.testing.assert_allclose(rates(config, [0], batch_size=32), 0.15, rtol=1e-6)
  np.testing.assert_allclose(rates(config, [0], batch_size=256), 1.2, rtol=1e-6)


def test_the_smooth_exponential_schedule(config):
  config.learning_rate = 1.0
  config.schedule.update(name="exponential", factor=0.5, interval="1.25 epochs")
  steps = np.array([0, 1, 5, 12, 13, 25, 100])
  np.testing.assert_allclose(rates(config, steps), 0.5 ** (steps / 12.5), rtol=1e-6)


def test_the_staircase_falls_at_the_first_step_after_each_interval(config):
  config.learning_rate = 1.0
  config.schedule.update(name="exponential", factor=0.5, interval="1.25 epochs", staircase=True)
  expected = {0: 1, 12: 1, 13: 0.5, 24: 0.5, 25: 0.25, 37: 0.25, 38: 0.125}
  np.testing.assert_allclose(rates(config, expected), list(expected.values()), rtol=1e-6)


def test_an_exponential_schedule_needs_an_interval(config):
  config.schedule.update(name="exponential", interval="0 epochs")
  with pytest.raises(UserError, match=r"config\.optimizer\.schedule\.interval must be longer"):
    rates(config, [0])


def test_the_step_schedule_falls_at_each_boundary(config):
  config.learning_rate = 1.0
  config.schedule.update(name="step", factor=0.1, boundaries=("2 epochs", "45 steps"))
  expected = {0: 1, 19: 1, 20: 0.1, 44: 0.1, 45: 0.01, 99: 0.01}
  np.testing.assert_allclose(rates(config, expected), list(expected.values()), rtol=1e-6)


def test_the_cosine_schedule_ends_at_zero(config):
  config.learning_rate = 2.0
  config.schedule.name = "cosine"
  steps = np.array([0, 10, 50, 90, 100])
  expected = 1 + np.cos(np.pi * steps / 100)
  np.testing.assert_allclose(rates(config, steps), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TRAIN["optimizer.schedule.name"].rule.choices)
def test_a_warmup_only_lowers_the_first_steps(config, name):
  config.schedule.name = name
  steps = np.array([0, 1, 8, 9, 10, 50])
  without = np.array(rates(config, steps))
  config.schedule.warmup = "1 epochs"
  np.testing.assert_allclose(rates(config, steps), without * [0.1, 0.2, 0.9, 1, 1, 1], rtol=1e-6)


class TestAfterOtherBatches:
  """20 steps of 32 examples, two epochs; then batches of 64, of which an epoch has five."""

  BEFORE = MappingProxyType({"batch_size": 64, "first_step": 20, "first_examples": 640})

  @pytest.mark.parametrize("name", TRAIN["optimizer.schedule.name"].rule.choices)
  @pytest.mark.parametrize("warmup", ["0 steps", "3 epochs"])
  def test_the_rate_is_that_of_a_run_that_always_had_them(self, config, name, warmup):
    config.schedule.update(
      name=name, interval="1.5 epochs", boundaries=("1 epochs", "3 epochs"), warmup=warmup
    )
    steps = np.array([20, 22, 24, 25, 30, 40])
    found = rates(config, steps, total_steps=50, **self.BEFORE)
    expected = rates(config, steps - 10, batch_size=64, total_steps=40)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  def test_what_is_given_in_steps_counts_steps(self, config):
    config.learning_rate = 0.5  # 1 at 64 images
    config.schedule.update(name="step", factor=0.1, boundaries=("25 steps",))
    assert rates(config, [24, 25], **self.BEFORE) == pytest.approx([1, 0.1])
    config.schedule.update(name="exponential", factor=0.5, interval="10 steps")
    assert rates(config, [20, 30], **self.BEFORE) == pytest.approx([0.25, 0.125])
    config.schedule.update(name="constant", warmup="40 steps")
    assert rates(config, [19, 29, 39], **self.BEFORE) == pytest.approx([0.5, 0.75, 1])

  def test_boundaries_that_are_over_count_each(self, config):
    config.learning_rate = 0.5
    config.schedule.update(name="step", factor=0.1, boundaries=("1 epochs", "1.1 epochs"))
    before = {"batch_size": 64, "first_step": 2, "first_examples": 640}
    assert rates(config, [2, 3], **before) == pytest.approx([0.01, 0.01])


def test_an_unknown_schedule_is_refused(config):
  config.schedule.name = "cosinus"
  with pytest.raises(UserError, match=r"name='cosinus' is unknown\. Did you mean 'cosine'\?"):
    rates(config, [0])


@pytest.mark.parametrize("field", ["interval", "warmup"])
def test_a_bad_duration_is_refused_by_its_field(config, field):
  config.schedule.update({"name": "exponential", field: "soon"})
  with pytest.raises(
    UserError, match=rf"config\.optimizer\.schedule\.{field}='soon' is no duration"
  ):
    rates(config, [0])


def test_the_averages_decay_warms_up():
  decays = [float(optim.averaging_decay(0.999, jnp.int32(step))) for step in (0, 1, 90, 10**6)]
  np.testing.assert_allclose(decays, [0.1, 2 / 11, 0.91, 0.999], rtol=1e-6)
