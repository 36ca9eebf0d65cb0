"""Any number of devices, and both ways to run a step on them, give the same training."""

import contextlib
import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.durations import Durations
from speedpaper_jax.data import digits
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import ops
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.bn_inception import BNInception
from speedpaper_jax.models.layers import ConvBlock, Dropout, LayerSettings
from speedpaper_jax.steps import optim
from speedpaper_jax.steps.step import TrainState, make_train_step
from speedpaper_jax.storage.checkpoint import Checkpoints

DEVICES = 8
STEPS = 5
CLASSES = 10
SIZE = 32

# Deep normalised networks amplify the rounding of sums: float32 could not tell right from wrong.
TOLERANCE = 1e-8


class TwoLayers(nn.Module):
  """Two normalised convolutions, dropout and a softmax layer."""

  settings: LayerSettings
  dropout_rate: float = 0.5

  @nn.compact
  def __call__(self, images, *, train):
    x = images.astype(self.settings.dtype)
    x = ConvBlock(8, (3, 3), self.settings, strides=2)(x, train=train)
    x = ConvBlock(12, (3, 3), self.settings, strides=2)(x, train=train)
    x = Dropout(self.dropout_rate, self.settings.axis_name)(jnp.mean(x, (1, 2)), train=train)
    return nn.Dense(CLASSES, dtype=self.settings.dtype)(x)


def two_layers(settings):
  return TwoLayers(settings)


def bn_inception(settings):
  return BNInception(num_classes=CLASSES, settings=settings, dropout_rate=0.4)


NETWORKS = [two_layers, pytest.param(bn_inception, marks=pytest.mark.slow)]


def mesh_of(devices):
  return jax.make_mesh(
    (devices,),
    (parallel.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:devices],
  )


def make_step_and_state(
  network, mode, statistics="global", rows=32, accumulation_steps=1, dtype=jnp.float64
):
  """With `statistics` "replica" each device's rows are normalised alone."""
  axis_name = parallel.axis_name(mode)
  rows_per_device = rows // accumulation_steps // DEVICES
  batch_norm = BatchNorm(
    decay=0.9,
    virtual_batch_size=rows_per_device if (statistics, mode) == ("replica", "jit") else None,
    axis_name=axis_name if statistics == "global" else None,
  )
  model = network(LayerSettings(batch_norm, dtype=dtype, operations=ops.CPU, axis_name=axis_name))
  config = train_config().optimizer
  config.update(learning_rate=0.0015, base_batch_size=rows, l2=2e-4)  # BN-Baseline's
  schedule = optim.make_schedule(config, Durations(rows, epoch_size=1440), STEPS)
  optimizer = optim.make_optimizer(config, schedule)
  step = make_train_step(
    model,
    optimizer,
    seed=3,
    label_smoothing=0.1,
    accumulation_steps=accumulation_steps,
    average_decay=0.99,
    axis_name=axis_name,
  )
  return step, TrainState.create(initial_variables(network, dtype), optimizer, with_average=True)


@functools.cache
def initial_variables(network, dtype):
  """The same for all statistics, and long to compile."""
  model = network(LayerSettings(BatchNorm(), dtype=dtype, operations=ops.CPU))
  init = jax.jit(functools.partial(model.init, train=False))
  variables = init(jax.random.key(1), jnp.zeros((1, SIZE, SIZE, 3)))
  return jax.tree.map(lambda x: np.asarray(x, dtype), variables)


def make_batches(rows=32, count=STEPS):
  """Digits; one row of each batch does not count."""
  pixels, labels = digits.load()
  for first in range(0, rows * count, rows):
    enlarged = np.kron(pixels[first : first + rows], np.ones((1, SIZE // 8, SIZE // 8), np.uint8))
    mask = np.ones(rows, np.float32)
    mask[5] = 0
    yield {
      "image": np.repeat(enlarged[..., np.newaxis] * np.uint8(15), 3, -1),
      "label": labels[first : first + rows].astype(np.int32),
      "mask": mask,
    }


def train(network, mode="jit", devices=DEVICES, rows=32, saved=None, states=None, **options):
  """State and metrics after five steps in float64, on the host.

  Training begins where the newest of the checkpoints `saved` is; `states` gets that of each step.
  """
  with jax.enable_x64():
    mesh = mesh_of(devices)
    compiled, state = compiled_step_and_state(network, mode, devices, rows=rows, **options)
    state = parallel.replicate(mesh, state)
    if saved is not None:
      _, state, _ = saved.restore(state)
    for batch in itertools.islice(make_batches(rows), int(state.step), None):
      # With two steps under way virtual devices may wait for each other's threads for ever.
      state, metrics = jax.block_until_ready(compiled(state, parallel.shard_batch(mesh, batch)))
      if states is not None:
        states.append(jax.device_get(state))
    return jax.device_get((state, metrics))


@functools.cache
def compiled_step_and_state(network, mode, devices, **options):
  """The step of `parallel.jit_train_step`, and the state before the first one."""
  mesh = mesh_of(devices)
  step, state = make_step_and_state(network, mode, **options)
  batch = parallel.shard_batch(mesh, next(make_batches(options["rows"])))
  lowered = parallel.jit_train_step(step, mesh, mode).lower(parallel.replicate(mesh, state), batch)
  return lowered.compile(), state


def train_with_literal_pmap(network):
  """The same with `jax.pmap`, whose states and batches are stacked."""
  with jax.enable_x64():
    step, state = make_step_and_state(network, "pmap")
    # On the devices before the first step, or that would be compiled once more for the second.
    by_replica = NamedSharding(mesh_of(DEVICES), PartitionSpec(parallel.AXIS))
    state = jax.tree.map(lambda x: np.broadcast_to(x, (DEVICES, *x.shape)), state)
    state = jax.block_until_ready(jax.device_put(state, by_replica))
    compiled = jax.pmap(step, parallel.AXIS, donate_argnums=0)
    for batch in make_batches():
      stacked = {name: x.reshape(DEVICES, -1, *x.shape[1:]) for name, x in batch.items()}
      stacked = jax.block_until_ready(jax.device_put(stacked, by_replica))
      state, metrics = jax.block_until_ready(compiled(state, stacked))
    # Replica 3 stands for all. Its shard is read, because `x[3]` is a program of all devices for
    # each array, and programs that do not depend on each other can lock each other out.
    return jax.tree.map(lambda x: np.asarray(x.addressable_shards[3].data)[0], (state, metrics))


@functools.cache
def run_on_eight_devices(network):
  """The state after each step, and what `train` returns."""
  states = []
  end = train(network, states=states)
  return states, end


def train_on_eight_devices(network):
  """What the others are compared with: `jit`, statistics of the global batch."""
  return run_on_eight_devices(network)[1]


def assert_same(actual, expected):
  for name in ("step", "examples"):
    assert getattr(actual[0], name) == getattr(expected[0], name)
  for name in ("params", "batch_stats", "average", "opt_state"):
    difference = largest_difference(getattr(actual[0], name), getattr(expected[0], name))
    assert difference <= TOLERANCE, name
  assert largest_difference(actual[1], expected[1]) <= TOLERANCE, "metrics"


def largest_difference(one, other):
  differences = jax.tree.map(lambda a, b: np.max(np.abs(a - b), initial=0), one, other)
  return max(jax.tree.leaves(differences))


@pytest.mark.parametrize("network", NETWORKS)
class TestGlobalStatistics:
  def test_one_device_is_as_good_as_eight(self, network):
    assert_same(train(network, devices=1), train_on_eight_devices(network))

  def test_pmap_semantics_with_a_named_axis_are_those_of_jit(self, network):
    assert_same(train(network, "pmap"), train_on_eight_devices(network))

  def test_a_literal_pmap_does_the_same(self, network):
    assert_same(train_with_literal_pmap(network), train_on_eight_devices(network))

  def test_a_run_goes_on_on_other_devices(self, network, tmp_path):
    """From the checkpoint of the third of five steps, on two devices instead of eight."""
    states, end = run_on_eight_devices(network)
    with contextlib.closing(Checkpoints(tmp_path)) as saved:
      saved.save(3, states[2], {})
      saved.wait()
      assert_same(train(network, devices=2, saved=saved), end)


class TestReplicaStatistics:
  @pytest.mark.parametrize("accumulation_steps", [1, 2])
  def test_pmap_semantics_are_virtual_batches_under_jit(self, accumulation_steps):
    options = {"statistics": "replica", "accumulation_steps": accumulation_steps}
    assert_same(train(two_layers, "pmap", **options), train(two_layers, "jit", **options))

  @pytest.mark.slow
  def test_bn_inception_is_no_exception(self):
    # The last maps are 1×1: with 12 rows a replica they have 12 values. With 4 the network is so
    # ill-conditioned that rounding grows a thousandfold a step, in float64 as well.
    options = {"statistics": "replica", "rows": 96}
    assert_same(train(bn_inception, "pmap", **options), train(bn_inception, "jit", **options))

  def test_they_are_not_the_global_ones(self):
    state, _ = train(two_layers, "pmap", statistics="replica")
    expected, _ = train_on_eight_devices(two_layers)
    assert largest_difference(state.params, expected.params) > 1e-4


def test_the_step_keeps_every_dtype_and_counts_global_rows():
  with jax.enable_x64():
    _, before = make_step_and_state(two_layers, "pmap")
  after, metrics = train(two_layers, "pmap")
  assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, before)
  assert (after.step, after.examples) == (STEPS, STEPS * 32)
  assert metrics["count"] == 31


@pytest.fixture
def mesh():
  return parallel.make_mesh()


def test_the_mesh_is_one_row_of_all_devices(mesh):
  assert mesh.devices.tolist() == jax.devices()
  assert len(mesh.devices) == DEVICES
  assert mesh.axis_names == (parallel.AXIS,)
  assert parallel.platform(mesh) == "cpu"


def test_only_pmap_semantics_have_an_axis():
  assert parallel.axis_name("jit") is None
  assert parallel.axis_name("pmap") == parallel.AXIS
  with pytest.raises(UserError, match=r"config\.parallel='gjit' is unknown\. Did you mean 'jit'\?"):
    parallel.axis_name("gjit")


def test_each_device_has_its_rows_of_a_batch(mesh):
  batch = next(make_batches(rows=16))
  for name, array in parallel.shard_batch(mesh, batch).items():
    for device, shard in enumerate(array.addressable_shards):
      np.testing.assert_array_equal(shard.data, batch[name][2 * device : 2 * device + 2])


def test_each_device_has_the_whole_state_as_its_template_says(mesh):
  def make_tree():
    return {"a": jnp.arange(3.0), "b": jnp.zeros((), jnp.int32)}

  tree = parallel.replicate(mesh, make_tree())
  template = parallel.replicated_template(mesh, jax.eval_shape(make_tree))
  for name, leaf in tree.items():
    assert [shard.data.shape for shard in leaf.addressable_shards] == [leaf.shape] * DEVICES
    described = template[name]
    assert (described.shape, described.dtype) == (leaf.shape, leaf.dtype)
    assert described.sharding == leaf.sharding


@pytest.mark.parametrize(("batch_size", "accumulation_steps"), [(8, 1), (64, 1), (32, 4)])
def test_a_batch_that_divides_is_accepted(mesh, batch_size, accumulation_steps):
  parallel.check_batch(mesh, batch_size, accumulation_steps)


@pytest.mark.parametrize(
  ("batch_size", "accumulation_steps", "message"),
  [
    (
      20,
      1,
      "A batch of 20 does not divide over 8 devices. Set config.batch_size to a multiple of 8.",
    ),
    (
      0,
      1,
      "A batch of 0 does not divide over 8 devices. Set config.batch_size to a multiple of 8.",
    ),
    (
      32,
      3,
      "A batch of 32 does not divide over 8 devices times 3 accumulation steps. "
      "Set config.batch_size to a multiple of 24.",
    ),
  ],
)
def test_a_batch_that_does_not_divide_is_refused(mesh, batch_size, accumulation_steps, message):
  with pytest.raises(UserError) as refusal:
    parallel.check_batch(mesh, batch_size, accumulation_steps)
  assert str(refusal.value) == message


@pytest.mark.parametrize("mode", parallel.MODES)
def test_the_step_takes_over_the_states_buffers(mesh, mode):
  step, state = make_step_and_state(two_layers, mode, dtype=jnp.float32)
  state = parallel.replicate(mesh, state)
  batch = parallel.shard_batch(mesh, next(make_batches()))
  after, _ = parallel.jit_train_step(step, mesh, mode)(state, batch)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, batch)))


def test_evaluation_leaves_the_variables_where_they_are(mesh):
  replicated = parallel.replicate(mesh, jnp.ones(3))
  rows = parallel.shard_batch(mesh, {"x": np.arange(16.0)})
  total = parallel.jit_on_mesh(lambda weights, batch: weights * batch["x"].sum(), mesh)
  np.testing.assert_array_equal(total(replicated, rows), [120, 120, 120])
  assert not replicated.is_deleted()


@pytest.mark.parametrize(
  ("mode", "statistics", "per_layer"),
  [
    ("jit", "replica", 0),
    ("pmap", "replica", 0),
    ("pmap", "global", 2),  # a gather of moments, a sum for their gradient
    ("jit", "global", 3),  # mean, then squared deviations, then their gradient
  ],
)
def test_devices_meet_once_a_step_and_for_joint_statistics(mesh, mode, statistics, per_layer):
  """The one exchange averages gradients, metrics and running statistics at once."""
  layers = 2
  step, state = make_step_and_state(two_layers, mode, statistics, dtype=jnp.float32)
  state = parallel.replicate(mesh, state)
  batch = parallel.shard_batch(mesh, next(make_batches()))
  program = parallel.jit_train_step(step, mesh, mode).lower(state, batch).compile().as_text()
  collectives = re.findall(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(", program
  )
  assert len(collectives) == 1 + per_layer * layers
