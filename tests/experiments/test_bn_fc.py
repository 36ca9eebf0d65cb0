"""configs/bn_fc.py: a run and what it leaves, what it shows, and the same steps in PyTorch."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from packages import require

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import bn_fc, side_by_side
from speedpaper_jax.experiments.side_by_side import SideBySide
from speedpaper_jax.storage.run_directory import RunDirectory

NAMES = ("without", "with")


def run(config, path):
  """Returns the summary and the arrays."""
  directory = RunDirectory(path)
  summary = experiments.get("bn_fc")(config, directory)
  assert directory.read("config.json") == json.loads(config.to_json())
  return summary, directory.read_arrays()


def small_config(arguments=""):
  config = load(f"configs/bn_fc.py{arguments}")
  config.update(train_examples=100, test_examples=20, hidden_layers=3, hidden_units=4, epochs=2)
  return config


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
  return run(small_config(":activation=tanh"), tmp_path_factory.mktemp("run"))


class TestRun:
  def test_summary(self, ended):
    summary, arrays = ended
    json.dumps(summary, allow_nan=False)
    assert summary["steps"] == 2 * 2  # a whole batch and a short one in each epoch
    assert summary["seconds"] > 0
    assert summary["test_variance"] == pytest.approx(arrays["test_y"].var(), rel=1e-5)
    assert summary["networks"] == {
      name: {"test_loss": pytest.approx(arrays[f"{name}/test_loss"][-1])} for name in NAMES
    }

  def test_arrays(self, ended):
    _, arrays = ended
    expected = {"train_x": (100,), "train_y": (100,), "test_x": (20,), "test_y": (20,)}
    for name in NAMES:
      expected[f"{name}/test_loss"] = (3,)
      expected[f"{name}/outputs"] = (3, 20)
      expected[f"{name}/inputs"] = expected[f"{name}/activations"] = (3, 3, 20 * 4)
    assert {name: array.shape for name, array in arrays.items()} == expected

  @pytest.mark.parametrize("name", NAMES)
  def test_losses_are_those_of_the_outputs(self, ended, name):
    _, arrays = ended
    errors = arrays[f"{name}/outputs"] - arrays["test_y"]
    assert_allclose(arrays[f"{name}/test_loss"], np.mean(errors**2, -1), rtol=1e-5)

  @pytest.mark.parametrize("name", NAMES)
  def test_activations_are_those_of_the_inputs(self, ended, name):
    _, arrays = ended
    assert_allclose(arrays[f"{name}/activations"], np.tanh(arrays[f"{name}/inputs"]), atol=1e-6)

  def test_the_seed_makes_the_difference(self, ended, tmp_path):
    """Of the noise and the weights; one that did not end is replaced by the next."""
    _, arrays = ended
    config = small_config(":activation=tanh")
    config.epochs = 0
    _, again = run(config, tmp_path)
    assert_array_equal(again["train_y"], arrays["train_y"])
    assert_array_equal(again["with/outputs"], arrays["with/outputs"][:1])
    config.seed += 1
    _, other = run(config, tmp_path)
    assert (other["train_y"] != arrays["train_y"]).all()
    assert (other["with/outputs"] != arrays["with/outputs"][:1]).all()

  @pytest.mark.parametrize(
    ("field", "value", "message"),
    [
      ("batch_size", 5000, "batch_size is 5000, but there are 2000 examples to train on"),
      ("batch_size", 1999, "Of 2000 examples in batches of 1999 one is left over"),
      ("batch_size", 1, "batch_size is 1; it must be a whole number from 2"),
      ("initial_std", float("nan"), "initial_std is nan; it must be a finite number above 0"),
    ],
  )
  def test_numbers_that_cannot_be_are_refused_before_anything_is_written(
    self, tmp_path, field, value, message
  ):
    config = load("configs/bn_fc.py")
    config[field] = value
    with pytest.raises(UserError, match=message):
      bn_fc.run(config, RunDirectory(tmp_path / "run"))
    assert not (tmp_path / "run").exists()

  def test_an_unknown_optimizer_is_refused_before_anything_is_written(self, tmp_path):
    config = small_config()
    config.optimizer.name = "adan"
    with pytest.raises(UserError, match=r"config.optimizer.name='adan' is unknown\. Did you mean"):
      run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_only_the_network_with_batch_normalization_learns(activation, tmp_path):
  """The other one has learned the mean of the targets, and no more."""
  summary, arrays = run(load(f"configs/bn_fc.py:activation={activation}"), tmp_path)
  variance = summary["test_variance"]
  assert arrays["without/test_loss"][0] > 1.5 * variance
  assert summary["networks"]["without"]["test_loss"] == pytest.approx(variance, rel=0.02)
  assert summary["networks"]["with"]["test_loss"] < variance / 2
  assert np.ptp(arrays["without/outputs"][-1]) < 0.1
  assert np.ptp(arrays["with/outputs"][-1]) > 10


class TestParabola:
  def test_shapes_and_types(self):
    examples = bn_fc.parabola(np.random.default_rng(0), 50)
    assert examples.inputs.shape == examples.targets.shape == (50, 1)
    assert examples.inputs.dtype == examples.targets.dtype == jnp.float32

  def test_equidistant_inputs(self):
    x = np.ravel(bn_fc.parabola(np.random.default_rng(0), 18).inputs)
    assert_allclose(x, np.arange(-7, 11), atol=1e-5)

  def test_targets_are_a_parabola_with_noise(self):
    examples = bn_fc.parabola(np.random.default_rng(0), 10_000)
    noise = examples.targets - (examples.inputs**2 - 5)
    assert np.mean(noise) == pytest.approx(0, abs=0.1)
    assert np.std(noise) == pytest.approx(2, rel=0.05)


class TestEpochBatches:
  def test_every_example_once_and_the_short_batch_last(self):
    batches = list(bn_fc.epoch_batches(2000, 64, seed=1, epoch=0))
    assert [found.shape for found in batches] == [(31, 64), (1, 16)]
    assert sorted(np.concatenate([np.ravel(found) for found in batches])) == list(range(2000))

  def test_no_short_batch_where_the_examples_divide(self):
    (batches,) = bn_fc.epoch_batches(128, 64, seed=1, epoch=0)
    assert batches.shape == (2, 64)

  def test_orders_are_a_function_of_seed_and_epoch(self):
    def order(seed, epoch):
      return tuple(next(bn_fc.epoch_batches(64, 64, seed, epoch))[0])

    assert order(1, 2) == order(1, 2)
    assert len({order(*drawn) for drawn in itertools.product(range(3), range(3))}) == 9


# What follows compares with PyTorch in float64.
STEPS = 34  # an epoch, whose last batch is short, and two more
TOLERANCE = 1e-8  # of the largest value
# The gradients of biases that batch normalization subtracts again are zero, but for rounding
# errors; Adam divides these by their own size, and makes of them a part of its step of 0.03.
SUBTRACTED_TOLERANCE = 1e-3


@pytest.fixture
def torch():
  require()
  import torch

  return torch


def build_torch_network(torch, config, batch_norm):
  """The same network of PyTorch's layers, with weights that PyTorch draws."""

  def normalization(units):
    if not batch_norm:
      return torch.nn.Identity()
    return torch.nn.BatchNorm1d(units, momentum=0.5, eps=1e-5)

  class Network(torch.nn.Module):
    def __init__(self):
      super().__init__()
      sizes = [1, *[10] * 8]
      self.input_normalization = normalization(1)
      self.hidden = torch.nn.ModuleList(map(torch.nn.Linear, sizes, sizes[1:]))
      self.normalizations = torch.nn.ModuleList(map(normalization, sizes[1:]))
      self.output = torch.nn.Linear(10, 1)
      for layer in (*self.hidden, self.output):
        torch.nn.init.normal_(layer.weight, mean=0, std=0.1)
        torch.nn.init.constant_(layer.bias, -0.2)

    def forward(self, x):
      x = self.input_normalization(x)
      for layer, normalize in zip(self.hidden, self.normalizations, strict=True):
        x = getattr(torch, config.activation)(normalize(layer(x)))
      return self.output(x)

  return Network().double()


def from_torch(network, value=lambda parameter: parameter):
  """`params` of each parameter's `value`, and `batch_stats`."""

  def array(tensor):
    return tensor.detach().numpy().copy()

  def dense(layer):
    return {"kernel": array(value(layer.weight)).T, "bias": array(value(layer.bias))}

  def batch_norm(layer):
    return {"scale": array(value(layer.weight)), "bias": array(value(layer.bias))}

  def statistics(layer):
    return {"mean": array(layer.running_mean), "var": array(layer.running_var)}

  params = {f"hidden_{i}": {"dense": dense(layer)} for i, layer in enumerate(network.hidden, 1)}
  params["output"] = dense(network.output)
  batch_stats = {}
  if list(network.input_normalization.parameters()):
    params["input_batch_norm"] = batch_norm(network.input_normalization)
    batch_stats["input_batch_norm"] = statistics(network.input_normalization)
    for number, layer in enumerate(network.normalizations, 1):
      params[f"hidden_{number}"]["batch_norm"] = batch_norm(layer)
      batch_stats[f"hidden_{number}"] = {"batch_norm": statistics(layer)}
  return {"params": params, "batch_stats": batch_stats}


def replica(tree):
  """Adds the axis of replicas."""
  return jax.tree.map(lambda x: x[None], tree)


def state_from_torch(state, network, optimizer):
  """The state after PyTorch's last step."""

  def moment(name):
    return replica(from_torch(network, lambda x: optimizer.state[x][name])["params"])

  (count,) = {int(moments["step"]) for moments in optimizer.state.values()}
  opt_state = optax.tree.set(
    state.opt_state,
    count=np.array([count], np.int32),
    mu=moment("exp_avg"),
    nu=moment("exp_avg_sq"),
  )
  return state.replace(**replica(from_torch(network)), opt_state=opt_state)


def assert_close(actual, desired, tolerance, what):
  desired = np.asarray(desired)
  assert_allclose(
    actual, desired, rtol=0, atol=tolerance * np.abs(desired).max(), err_msg=str(what)
  )


def assert_same_variables(state, network):
  has_batch_norm = bool(state.batch_stats)

  def check(path, ours, theirs):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if has_batch_norm and name.endswith(("dense/bias", "params/input_batch_norm/bias")):
      assert_allclose(ours[0], theirs, rtol=0, atol=SUBTRACTED_TOLERANCE, err_msg=name)
    else:
      assert_close(ours[0], theirs, TOLERANCE, name)

  jax.tree_util.tree_map_with_path(check, jax.device_get(state.variables), from_torch(network))


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_steps_are_pytorch_s(torch, activation):
  """PyTorch's weights, PyTorch's steps on the same batches, PyTorch's outputs in the end.

  Without batch normalization all steps are taken one after another. With it each begins where
  PyTorch's ended: with sigmoids a rounding error grows to 1e-4 in 30 steps, in PyTorch itself too,
  since Adam moves parameters whose gradients nearly vanish as far as any others.
  """
  torch.manual_seed(0)
  config = load(f"configs/bn_fc.py:activation={activation}")
  theirs = {name: build_torch_network(torch, config, name == "with") for name in NAMES}
  optimizers = {name: torch.optim.Adam(theirs[name].parameters(), lr=0.03) for name in NAMES}
  comparison = SideBySide(
    bn_fc.networks(config), side_by_side.build_optimizer(config), side_by_side.squared_error
  )
  train, test = (
    jax.tree.map(
      lambda x: jnp.asarray(np.asarray(x), "float64"),
      bn_fc.parabola(np.random.default_rng(0), count),
    )
    for count in (config.train_examples, config.test_examples)
  )
  x, y = (torch.from_numpy(np.array(values)) for values in (train.inputs, train.targets))

  states = {name: comparison.state_of(replica(from_torch(theirs[name]))) for name in NAMES}
  batches = (
    rows
    for epoch in itertools.count()
    for whole_or_short in bn_fc.epoch_batches(2000, 64, config.seed, epoch)
    for rows in whole_or_short
  )
  sizes = set()
  for step, rows in enumerate(itertools.islice(batches, STEPS), 1):
    sizes.add(len(rows))
    if step > 1:
      states["with"] = state_from_torch(states["with"], theirs["with"], optimizers["with"])
    states, losses = comparison.train(states, train, rows[None])
    for name in NAMES:
      optimizers[name].zero_grad()
      loss = torch.nn.functional.mse_loss(theirs[name](x[rows]), y[rows])
      loss.backward()
      optimizers[name].step()
      assert_close(losses[name], [[loss.item()]], TOLERANCE, f"loss at step {step}")
      assert_same_variables(states[name], theirs[name])
  assert sizes == {64, 16}

  for name, (_, outputs) in comparison.evaluate(states, test).items():
    theirs[name].eval()
    expected = theirs[name](torch.from_numpy(np.array(test.inputs))).detach()
    assert_close(outputs[0], expected, 1e-6, f"outputs {name}")
