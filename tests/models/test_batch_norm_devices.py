"""Batch Normalization over eight devices: whose statistics are joined, and what that sends."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose

from speedpaper_jax.models.batch_norm import BatchNorm, row_mask
from speedpaper_jax.models.layers import ConvBlock, LayerSettings

DEVICES = 8
ROWS = 32
LAYERS = 4
AXIS = "devices"
REPLICATED, BY_ROWS = PartitionSpec(), PartitionSpec(AXIS)


@pytest.fixture
def mesh():
  return jax.make_mesh((DEVICES,), (AXIS,), axis_types=(AxisType.Auto,))


def random(seed, shape):
  return np.random.default_rng(seed).normal(size=shape)


def output_and_gradients(module, variables, x, d_y, axis_name=None, mask=None):
  """Returns y, dx, dγ and dβ, new batch_stats; d_y is the loss's gradient on these rows."""
  rows = {} if mask is None else row_mask(mask)

  def apply(params, x):
    return module.apply(
      {**variables, **rows, "params": params}, x, train=True, mutable=["batch_stats"]
    )

  y, vjp, updated = jax.vjp(apply, variables["params"], x, has_aux=True)
  d_params, d_x = vjp(d_y)
  batch_stats = updated["batch_stats"]
  if axis_name is not None:
    d_params = jax.lax.psum(d_params, axis_name)
    batch_stats = jax.lax.pmean(batch_stats, axis_name)
  return y, d_x, d_params, batch_stats


@pytest.mark.parametrize("shape", [(ROWS, 5), (ROWS, 3, 2, 4)], ids=["fc", "conv"])
@pytest.mark.parametrize("per_activation", [False, True])
@pytest.mark.parametrize(
  ("mapped", "on_one_device"),
  [
    (BatchNorm(axis_name=AXIS), BatchNorm()),
    (BatchNorm(), BatchNorm(virtual_batch_size=ROWS // DEVICES)),
  ],
  ids=["joint", "per_replica"],
)
@pytest.mark.parametrize("in_one_pass", [False, True], ids=["two_passes", "one_pass"])
def test_a_mapped_axis_equals_one_device(
  mesh, mapped, on_one_device, shape, per_activation, in_one_pass
):
  """Joint statistics are the global batch's; per-replica ones are those of virtual batches."""
  mapped = mapped.copy(per_activation=per_activation, moments_in_one_pass=in_one_pass)
  on_one_device = on_one_device.copy(per_activation=per_activation)
  with jax.enable_x64(True):
    # Rows of different devices differ in mean and spread, so that it matters who joins whom.
    position = np.arange(1, ROWS + 1).reshape(ROWS, *[1] * (len(shape) - 1))
    x, d_y = position * (1 + random(0, shape)), random(1, shape)
    variables = on_one_device.init(jax.random.key(0), x, train=True)
    on_devices = jax.shard_map(
      lambda variables, x, d_y: output_and_gradients(mapped, variables, x, d_y, AXIS),
      mesh=mesh,
      in_specs=(REPLICATED, BY_ROWS, BY_ROWS),
      out_specs=(BY_ROWS, BY_ROWS, REPLICATED, REPLICATED),
      check_vma=False,
    )
    expected = jax.jit(output_and_gradients, static_argnums=0)(on_one_device, variables, x, d_y)
    actual = jax.jit(on_devices)(variables, x, d_y)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10), actual, expected)


@pytest.mark.parametrize(
  ("mapped", "on_one_device"),
  [
    (BatchNorm(axis_name=AXIS), BatchNorm()),
    (BatchNorm(), BatchNorm(virtual_batch_size=ROWS // DEVICES)),
  ],
  ids=["joint", "per_replica"],
)
def test_a_max_pool_that_comes_first_equals_one_device(mesh, mapped, on_one_device):
  """As above, but on one device the pool comes last."""
  with jax.enable_x64(True):
    position = np.arange(1, ROWS + 1).reshape(ROWS, 1, 1, 1)
    x, d_y = position * (1 + random(0, (ROWS, 4, 2, 4))), random(1, (ROWS, 2, 1, 4))
    variables = on_one_device.init(jax.random.key(0), x, train=True)
    variables["params"]["scale"] = np.array([1.0, -1.0, 0.5, -2.0])
    on_devices = jax.shard_map(
      lambda variables, x, d_y: output_and_gradients(PooledFirst(mapped), variables, x, d_y, AXIS),
      mesh=mesh,
      in_specs=(REPLICATED, BY_ROWS, BY_ROWS),
      out_specs=(BY_ROWS, BY_ROWS, REPLICATED, REPLICATED),
      check_vma=False,
    )
    expected = jax.jit(output_and_gradients, static_argnums=0)(
      PooledLast(on_one_device), variables, x, d_y
    )
    actual = jax.jit(on_devices)(variables, x, d_y)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10), actual, expected)


def max_pool(x):
  return nn.max_pool(x, (2, 2), (2, 2))


@dataclasses.dataclass(frozen=True)
class PooledFirst:
  module: BatchNorm

  def apply(self, *arguments, **named):
    return self.module.apply(*arguments, max_pool=max_pool, **named)


@dataclasses.dataclass(frozen=True)
class PooledLast:
  module: BatchNorm

  def apply(self, *arguments, **named):
    y, updated = self.module.apply(*arguments, **named)
    return max_pool(y), updated


@pytest.mark.parametrize("shape", [(ROWS, 5), (ROWS, 3, 2, 4)], ids=["fc", "conv"])
@pytest.mark.parametrize(
  ("mapped", "on_one_device"),
  [
    (BatchNorm(axis_name=AXIS), BatchNorm()),
    (BatchNorm(), BatchNorm(virtual_batch_size=ROWS // DEVICES)),
  ],
  ids=["joint", "per_replica"],
)
def test_masked_rows_are_left_out_by_all_devices(mesh, mapped, on_one_device, shape):
  """Of some devices no row is left, of others one, two, three or all four."""
  with jax.enable_x64(True):
    position = np.arange(1, ROWS + 1).reshape(ROWS, *[1] * (len(shape) - 1))
    x, d_y = position * (1 + random(0, shape)), random(1, shape)
    mask = np.ones(ROWS, np.float32)
    mask[[0, 1, 2, 3, 4, 5, 6, 9, 10, 15, *range(24, 28)]] = 0
    x[mask == 0] = np.inf
    variables = on_one_device.init(jax.random.key(0), np.ones(shape), train=True)
    on_devices = jax.shard_map(
      lambda variables, x, d_y, mask: output_and_gradients(mapped, variables, x, d_y, AXIS, mask),
      mesh=mesh,
      in_specs=(REPLICATED, BY_ROWS, BY_ROWS, BY_ROWS),
      out_specs=(BY_ROWS, BY_ROWS, REPLICATED, REPLICATED),
      check_vma=False,
    )
    compiled = jax.jit(output_and_gradients, static_argnums=(0, 4))
    actual = jax.jit(on_devices)(variables, x, d_y, mask)
    expected = compiled(on_one_device, variables, x, d_y, None, mask)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10), actual, expected)

    if on_one_device.virtual_batch_size is None:
      left = mask == 1
      y, d_x, *others = actual
      without = compiled(on_one_device, variables, x[left], d_y[left])
      jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10),
        (y[left], d_x[left], *others),
        without,
      )


class Network(nn.Module):
  """Layers in sequence, each of which waits for the statistics of the one before."""

  settings: LayerSettings

  @nn.compact
  def __call__(self, x, *, train):
    for _ in range(LAYERS):
      x = ConvBlock(4, (3, 3), self.settings)(x, train=train)
    return x


def gradients_and_statistics(mesh, batch_norm, mapped, is_masked=False):
  """The compiled part of a training step that divides among devices."""
  model = Network(LayerSettings(batch_norm))
  x = jnp.ones((ROWS, 8, 8, 4))
  variables = model.init(jax.random.key(0), x, train=False)

  def step(variables, x):
    rows = row_mask(x[:, 0, 0, 0]) if is_masked else {}

    def loss(params):
      y, updated = model.apply(
        {**variables, **rows, "params": params}, x, train=True, mutable=["batch_stats"]
      )
      return jnp.sum(jnp.square(y)), updated

    gradients_and_updated = jax.grad(loss, has_aux=True)(variables["params"])
    return jax.lax.psum(gradients_and_updated, AXIS) if mapped else gradients_and_updated

  if mapped:
    step = jax.shard_map(
      step, mesh=mesh, in_specs=(REPLICATED, BY_ROWS), out_specs=REPLICATED, check_vma=False
    )
  return compile_on_mesh(mesh, step, REPLICATED, variables, x)


def activations_and_their_gradients(mesh, batch_norm):
  """The compiled part in which a layer waits for the one before it, and nothing else."""
  model = Network(LayerSettings(batch_norm))
  x = jnp.ones((ROWS, 8, 8, 4))
  variables = model.init(jax.random.key(0), x, train=False)

  def forward_and_backward(variables, x):
    y, vjp = jax.vjp(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])[0], x)
    return y, vjp(y)

  return compile_on_mesh(mesh, forward_and_backward, BY_ROWS, variables, x)


def compile_on_mesh(mesh, function, out_spec, variables, x):
  replicated, by_rows = NamedSharding(mesh, REPLICATED), NamedSharding(mesh, BY_ROWS)
  compiled = jax.jit(
    function, in_shardings=(replicated, by_rows), out_shardings=NamedSharding(mesh, out_spec)
  )
  return compiled.lower(variables, x).compile()


def collectives(compiled):
  """Number of instructions that exchange data between devices."""
  names = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
  return len(re.findall(rf" (?:{names})(?:-start)?\(", compiled.as_text()))


class TestCollectives:
  """XLA joins what is independent: one all-reduce for all gradients and running statistics.

  Joint statistics add to it, for each layer, mean and m2 (global) or one gather of both (joint) in
  the forward pass, and one sum in the backward pass.
  """

  @pytest.mark.parametrize("is_masked", [False, True])
  @pytest.mark.parametrize(
    ("batch_norm", "mapped", "expected"),
    [
      pytest.param(None, False, 1, id="no_batch_norm"),
      pytest.param(BatchNorm(virtual_batch_size=ROWS // DEVICES), False, 1, id="group_a_device"),
      pytest.param(BatchNorm(virtual_batch_size=2), False, 1, id="two_groups_a_device"),
      pytest.param(BatchNorm(), True, 1, id="per_replica"),
      pytest.param(BatchNorm(), False, 3 * LAYERS + 1, id="global"),
      pytest.param(BatchNorm(axis_name=AXIS), True, 2 * LAYERS + 1, id="joint"),
    ],
  )
  def test_gradients_and_running_statistics(self, mesh, batch_norm, mapped, expected, is_masked):
    compiled = gradients_and_statistics(mesh, batch_norm, mapped, is_masked)
    assert collectives(compiled) == expected

  def test_no_activation_waits_for_another_device_in_groups_of_one_device(self, mesh):
    grouped = BatchNorm(virtual_batch_size=ROWS // DEVICES)
    assert collectives(activations_and_their_gradients(mesh, grouped)) == 0
    assert collectives(activations_and_their_gradients(mesh, BatchNorm())) >= 2 * LAYERS

  def test_groups_across_devices_do_wait(self, mesh):
    straddling = BatchNorm(virtual_batch_size=2 * ROWS // DEVICES)
    assert collectives(activations_and_their_gradients(mesh, straddling)) >= 2 * LAYERS
