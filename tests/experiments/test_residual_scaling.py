"""configs/residual_scaling.py: what is measured, with two residual blocks as the network."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import residual_scaling, side_by_side
from speedpaper_jax.models import features, registry
from speedpaper_jax.models.blocks import Conv, branch
from speedpaper_jax.models.inception_resnet import ResidualBlock
from speedpaper_jax.models.layers import ConvBlock, LayerSettings
from speedpaper_jax.storage.run_directory import RunDirectory

BRANCHES = (branch("conv_1x1", Conv(4)),)


class TwoBlocks(nn.Module):
  num_classes: int
  settings: LayerSettings
  residual_scales: tuple

  @nn.compact
  def __call__(self, images, *, train):
    x = ConvBlock(8, (3, 3), self.settings, strides=4, name="conv")(images, train=train)
    features.stage(self, "conv", x)
    for name, scale in zip(("block_a_1", "block_c_1"), self.residual_scales, strict=False):
      block = ResidualBlock(BRANCHES, scale, "relu", self.settings, name=name)
      x = features.stage(self, name, block(x, train=train))
    return nn.Dense(self.num_classes, name="logits")(x.mean((1, 2)))


def create(name, *, num_classes, settings, dropout_rate, residual_scales):
  """In place of `registry.create`."""
  assert (name, dropout_rate) == ("inception_resnet_v2", 0.0)
  return TwoBlocks(num_classes, settings, residual_scales)


def small_config(scratch):
  config = load("configs/residual_scaling.py")
  config.update(
    widths=(0.5, 1.0), scales=(1.0, 0.1), rates=(0.01, 0.1), steps=7, measure_every=3, batch_size=8
  )
  config.warmup.steps = 4
  config.data.update(dir=str(scratch / "data"), image_size=16, train_split="train[:64]")
  return config


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
  monkeypatch.setattr(registry, "create", create)


@pytest.fixture(scope="module")
def ended(scratch, tmp_path_factory):
  """Summary and arrays."""
  config = small_config(scratch)
  directory = RunDirectory(tmp_path_factory.mktemp("run"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", create)
    summary = experiments.get("residual_scaling")(config, directory)
  assert directory.read("config.json") == json.loads(config.to_json())
  return summary, directory.read_arrays()


class TestRun:
  def test_summary(self, ended):
    summary, _ = ended
    json.dumps(summary, allow_nan=False)
    assert summary["steps"] == 2 * 2 * 3 * 7
    assert summary["chance"] == 0.1
    assert list(summary["blocks"]) == ["block_a_1", "block_c_1"]
    assert list(summary["filters"]) == [4, 8]
    assert summary["arms"] == [
      {"scale": 1.0, "has_warmup": False},
      {"scale": 0.1, "has_warmup": False},
      {"scale": 1.0, "has_warmup": True},
    ]

  def test_arrays(self, ended):
    _, arrays = ended
    assert_array_equal(arrays["step"], [0, 3, 6])
    for name in ("loss", "top1", "gradient_norm", "dead", "zeros"):
      assert arrays[name].shape == (2, 2, 3, 3), name
    assert arrays["deviations"].shape == (2, 2, 3, 3, 2)
    assert all(np.isfinite(values).all() for values in arrays.values())

  def test_all_runs_of_a_width_and_scale_begin_with_the_same_weights_and_images(self, ended):
    _, arrays = ended
    first = arrays["loss"][..., 0]
    assert np.all(first == first[:, :1])
    assert_array_equal(first[..., 0], first[..., 2])  # a warm-up has no part in the first loss
    assert len(np.unique(first)) == 4

  def test_a_warmup_is_at_the_low_rate_until_its_end(self, ended):
    """Its loss moves less in the first steps than that of the same network at the full rate."""
    _, arrays = ended
    moved = np.abs(arrays["loss"][:, 1, :, 1] - arrays["loss"][:, 1, :, 0])
    assert np.all(moved[:, 2] < moved[:, 0])


def test_the_first_step_is_that_of_the_gradient_written_out(scratch):
  config = small_config(scratch)
  config.rmsprop.update(momentum=0.0)
  programs = residual_scaling.programs_of(config, 1.0, 10)
  generator = np.random.default_rng(0)
  inputs = jnp.asarray(generator.normal(size=(8, 16, 16, 3)), jnp.float32)
  batch = side_by_side.Examples(inputs, jnp.asarray(generator.integers(0, 10, 8), jnp.int32))
  state = programs.initial_state()
  network = residual_scaling.network_of(config, 1.0, 0.3, 10)
  before = jax.tree.map(np.asarray, state.params)

  def loss(params):
    variables = {"params": params, "batch_stats": state.batch_stats}
    logits, left = network.apply(variables, inputs, train=True, mutable=["batch_stats", "features"])
    return side_by_side.cross_entropy(logits, batch.targets), (logits, left)

  (value, (logits, left)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(before)
  after, measured = programs.step(state, batch, 0.3, 0.05)
  assert_allclose(measured.loss, value, rtol=1e-5)
  assert measured.top1 == np.mean(np.argmax(logits, -1) == batch.targets)
  assert_allclose(measured.gradient_norm, optax.tree.norm(grads), rtol=1e-5)
  last = np.asarray(left["features"]["block_c_1"])
  assert_allclose(measured.zeros, np.mean(last == 0), rtol=1e-6)
  assert_allclose(measured.dead, np.mean(np.max(last, (0, 1, 2)) == 0), rtol=1e-6)
  for number, name in enumerate(("block_a_1", "block_c_1")):
    assert_allclose(measured.deviations[number], np.std(left["features"][name]), rtol=1e-5)
  # RMSProp as TensorFlow 1 has it: the accumulator begins at one.
  expected = jax.tree.map(
    lambda w, g: w - 0.05 * g / np.sqrt(0.9 + 0.1 * np.square(g) + 1.0), before, grads
  )
  jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-4, atol=1e-6), after.params, expected)


@pytest.mark.parametrize(
  ("name", "filters"), [("inception_resnet_v1", 448), ("inception_resnet_v2", 536)]
)
def test_the_blocks_of_the_networks_are_in_their_order(monkeypatch, name, filters):
  monkeypatch.undo()  # the whole network
  config = load("configs/residual_scaling.py")
  config.model.name = name
  blocks = residual_scaling.residual_blocks(config, 0.25)
  numbers = {"a": 5, "b": 10, "c": 5}
  assert list(blocks) == [
    f"block_{kind}_{number}" for kind, count in numbers.items() for number in range(1, count + 1)
  ]
  assert blocks["block_c_5"] == (1, 1, 1, filters)


class TestMeasure:
  def test_a_feature_is_dead_where_no_image_has_a_place_for_it(self):
    maps = np.zeros((2, 3, 3, 4), np.float32)
    maps[1, 2, 2, 0] = 1.0  # one place of one image is enough
    maps[..., 3] = 2.0
    found = residual_scaling.measure(jnp.ones(()), jnp.ones(()), {"w": jnp.full(4, 2.0)}, [maps])
    assert found.dead == 0.5
    assert found.zeros == pytest.approx(1 - (1 + 18) / 72)
    assert found.gradient_norm == 4
    assert found.deviations == pytest.approx([maps.std()])


def test_a_loss_that_is_not_finite_ends_its_run_alone(scratch, tmp_path, monkeypatch):
  step = residual_scaling.programs_of

  def programs(*arguments):
    found = step(*arguments)

    def poisoned(state, batch, scale, rate):
      state, measured = found.step(state, batch, scale, rate)
      return state, measured._replace(loss=np.float32(np.nan)) if rate > 0.05 else measured

    return found._replace(step=poisoned)

  monkeypatch.setattr(residual_scaling, "programs_of", programs)
  config = small_config(scratch)
  config.widths = (1.0,)
  directory = RunDirectory(tmp_path)
  summary = residual_scaling.run(config, directory)
  loss = directory.read_arrays()["loss"]
  assert np.isfinite(loss[0, 0]).all()
  assert np.isnan(loss[0, 1, :2]).all()
  assert summary["steps"] == 3 * 7 + 2 * 1 + 7  # of the last, at the low rate until step 4


@pytest.mark.parametrize(("field", "section"), [("measure_every", ""), ("steps", "warmup")])
def test_what_is_longer_than_the_run_is_refused(scratch, tmp_path, field, section):
  config = small_config(scratch)
  (config[section] if section else config)[field] = 7
  with pytest.raises(UserError, match=r"is 7; it must be below config\.steps, which is 7"):
    residual_scaling.run(config, RunDirectory(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
