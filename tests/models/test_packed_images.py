"""Images side by side in the channels: the same network, faster on a TPU."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax.models import ops
from speedpaper_jax.models.batch_norm import BatchNorm, row_mask
from speedpaper_jax.models.blocks import MAX_POOL_V, Conv, Pool, apply_table, branch
from speedpaper_jax.models.features import FEATURES
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.models.packed_images import Packing, choose

N = 64
POOL_AT_THE_END = (
  ("conv_1", Conv(32, 3, strides=2, padding="VALID")),
  ("conv_2", Conv(5, 3)),
  ("pool", Pool("max", strides=2)),
  ("conv_3", Conv(6)),
)
BLOCK_AT_THE_END = (
  ("conv_1", Conv(32, 3)),
  (
    "mixed",
    (
      branch("pool", MAX_POOL_V),
      branch("conv_3x3", Conv(6, 3, strides=2, padding="VALID")),
      branch("reduced_3x3", Conv(2), Conv(3, 3, strides=2, padding="VALID")),
      branch("reduced_1x3", Conv(2), Conv(3, (1, 3)), Conv(3, 3, strides=2, padding="VALID")),
    ),
  ),
  ("conv_2", Conv(6)),
)


class Stem(nn.Module):
  """The rows of a table."""

  table: tuple
  settings: LayerSettings

  @nn.compact
  def __call__(self, x, *, train):
    return apply_table(self, self.table, self.settings, x, train)


class TestPacking:
  @pytest.mark.parametrize("runs", [1, 2, 4])
  def test_unpacking_gives_back_what_was_packed(self, runs):
    x, packing = np.random.default_rng(0).normal(size=(24, 3, 2, 5)), Packing(3, runs)
    packed = packing.pack(x)
    assert packed.shape == (8, 3, 2, 15)
    assert_array_equal(packing.unpack(packed), x.astype("float32"))

  def test_images_of_different_runs_are_not_put_together(self):
    packed = Packing(2, 2).pack(np.arange(8).reshape(8, 1, 1, 1))
    assert packed.reshape(4, 2).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]

  def test_a_mask_is_packed_as_the_images_are(self):
    mask = np.arange(12) % 5 > 1
    x = np.broadcast_to(mask.reshape(-1, 1, 1, 1), (12, 1, 1, 7))
    assert_array_equal(Packing(2, 3).pack_mask(mask, 7), Packing(2, 3).pack(x))


class TestChoice:
  @pytest.mark.parametrize(
    ("filters", "rows", "groups", "devices", "expected"),
    [
      (32, 32, 1, 1, Packing(4, 1)),
      (64, 32, 1, 1, Packing(2, 1)),
      (8, 32, 1, 1, Packing(4, 1)),  # not sixteen
      (32, 128, 1, 4, Packing(4, 4)),
      (32, 96, 3, 1, Packing(4, 3)),
      (32, 128, 2, 4, Packing(4, 4)),
      (32, 256, 8, 4, Packing(4, 8)),
    ],
  )
  def test_fills_the_channels(self, filters, rows, groups, devices, expected):
    assert choose(128, filters, rows, groups, devices) == expected

  @pytest.mark.parametrize(
    ("channels_at_once", "filters", "rows", "groups", "devices"),
    [
      (1, 32, 32, 1, 1),  # a CPU or a GPU
      (128, 96, 32, 1, 1),  # nearly full
      (128, 32, 16, 1, 1),  # four rows are less than a tile has
      (128, 32, 40, 1, 1),
      (128, 32, 128, 1, 1),  # laid out along the rows
      (128, 32, 192, 2, 3),  # groups straddle devices
      (128, 32, 64, 1, 4),  # 16 a device
    ],
  )
  def test_nothing_is_packed_where_nothing_is_won(
    self, channels_at_once, filters, rows, groups, devices
  ):
    assert choose(channels_at_once, filters, rows, groups, devices) is None

  def test_tpus_have_128_channels_at_once(self):
    assert ops.for_platform("tpu").channels_at_once == 128
    assert {ops.for_platform(name).channels_at_once for name in ("cpu", "gpu")} == {1}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("table", [POOL_AT_THE_END, BLOCK_AT_THE_END], ids=["pool", "block"])
class TestANetwork:
  @pytest.mark.parametrize(
    ("batch_norm", "train", "is_masked"),
    [
      (BatchNorm(), True, False),
      (BatchNorm(moments_in_one_pass=True), True, True),
      (BatchNorm(virtual_batch_size=32), True, True),
      (BatchNorm(frozen=("conv_1/**",)), True, False),
      (BatchNorm(), False, False),
    ],
    ids=["two_passes", "one_pass", "groups", "frozen", "inference"],
  )
  def test_has_the_same_outputs_statistics_and_gradients(self, table, batch_norm, train, is_masked):
    plain, packed = stems(table, batch_norm)
    variables, x, d_y = inputs(plain)
    mask = None
    if is_masked:
      mask = (np.arange(N) % 7 > 1).astype("float64")
      x[mask == 0] = d_y[mask == 0] = 1000
    expected = outputs_and_gradients(plain, variables, x, d_y, train, mask)
    found = outputs_and_gradients(packed, variables, x, d_y, train, mask)
    assert has_packed(packed, variables, x, train)
    assert_close(found, expected)

  @pytest.mark.parametrize("virtual_batch_size", [None, 32, 128])
  def test_is_the_same_on_devices(self, table, virtual_batch_size):
    """Under jit: of one group, of one for each device, and between."""
    batch_norm = BatchNorm(virtual_batch_size=virtual_batch_size)
    plain, packed = stems(table, batch_norm, devices=8)
    variables, x, d_y = inputs(plain, 8 * 32)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("batch"))
    on_devices = jax.device_put((x, d_y), rows)
    expected = outputs_and_gradients(plain, variables, x, d_y, True)
    found = outputs_and_gradients(packed, variables, *on_devices, True)
    assert has_packed(packed, variables, x, True)
    assert_close(found, expected)

  def test_nothing_of_a_batch_moves_between_devices(self, table):
    """But sums: of statistics, and of gradients."""
    _, packed = stems(table, BatchNorm(), devices=8)
    # The gradient of XLA's own max pool gathers its operands on CPUs, packed or not.
    operations = ops.TPU._replace(max_pool=ops.max_pool_by_slices)
    packed = packed.copy(settings=dataclasses.replace(packed.settings, operations=operations))
    variables, x, d_y = inputs(packed, 8 * 32)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    on_devices = jax.device_put((x, d_y), NamedSharding(mesh, PartitionSpec("batch")))
    program = outputs_and_gradients.lower(packed, variables, *on_devices, True)
    text = program.compile().as_text()
    assert "all-reduce" in text
    for kind in ("all-to-all", "all-gather", "collective-permute"):
      assert kind not in text

  @pytest.mark.parametrize("is_masked", [False, True])
  def test_is_the_same_on_a_mapped_axis(self, table, is_masked):
    """Statistics are joined after those of the images of one device are."""
    plain, packed = stems(table, BatchNorm(), BatchNorm(axis_name="batch"))
    variables, x, d_y = inputs(plain, 8 * 32)
    mask = np.ones(8 * 32)
    if is_masked:
      mask = (np.arange(8 * 32) % 7 > 1).astype("float64")
      mask[:33] = 0  # of one device, no row is left
      d_y[mask == 0] = 0
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    by_rows, same = PartitionSpec("batch"), PartitionSpec()

    def on_one(variables, x, d_y, mask):
      y, left, (d_params, d_x) = outputs_and_gradients(packed, variables, x, d_y, True, mask)
      return y, left, (jax.lax.psum(d_params, "batch"), d_x)

    on_devices = jax.shard_map(
      on_one,
      mesh=mesh,
      in_specs=(same, by_rows, by_rows, by_rows),
      out_specs=(by_rows, same, (same, by_rows)),
      check_vma=False,
    )
    expected = outputs_and_gradients(plain, variables, x, d_y, True, mask)
    assert_close(jax.jit(on_devices)(variables, x, d_y, mask), expected)

  @pytest.mark.parametrize(
    "changes",
    [
      {"batch_norm": None},
      {"bias_before_batch_norm": True},
      {"batch_norm": BatchNorm(per_activation_layers=("conv_2",))},
    ],
    ids=["no_batch_norm", "biases", "per_activation"],
  )
  def test_is_not_packed_where_layers_need_images_one_by_one(self, table, changes):
    _, packed = stems(table, BatchNorm())
    settings = dataclasses.replace(packed.settings, **changes)
    packed = packed.copy(settings=settings)
    plain = packed.copy(settings=dataclasses.replace(settings, operations=ops.PLAIN))
    variables, x, _ = inputs(plain)
    assert not has_packed(packed, variables, x, True)
    apply = {"train": True, "mutable": ["batch_stats"]}
    assert_close(packed.apply(variables, x, **apply), plain.apply(variables, x, **apply))

  def test_is_not_packed_where_somebody_looks_inside(self, table):
    plain, packed = stems(table, BatchNorm())
    variables, x, _ = inputs(plain)
    found, expected = (
      stem.apply(variables, x, train=False, mutable=[FEATURES]) for stem in (packed, plain)
    )
    assert expected[1][FEATURES]
    assert_close(found, expected)

  def test_a_batch_that_is_no_whole_group_is_refused_as_ever(self, table):
    for stem in stems(table, BatchNorm(virtual_batch_size=2 * N)):
      variables, x, _ = inputs(stem)
      with pytest.raises(ValueError, match="does not divide into groups"):
        stem.apply(variables, x, train=True, mutable=["batch_stats"])

  def test_has_the_initial_values_of_the_plain_form(self, table):
    one, other = (inputs(stem)[0] for stem in stems(table, BatchNorm()))
    jax.tree.map(assert_array_equal, one, other)


def stems(table, batch_norm, of_packed=None, devices=1):
  """Without and with images side by side."""
  plain = LayerSettings(batch_norm, dtype=jnp.float64)
  packed = dataclasses.replace(
    plain, batch_norm=of_packed or batch_norm, operations=ops.TPU, devices=devices
  )
  return Stem(table, plain), Stem(table, packed)


def inputs(stem, rows=N):
  """Variables with γ of both signs, images, and a gradient of the outputs."""
  generator = np.random.default_rng(0)
  x = generator.normal(1, 2, size=(rows, 11, 9, 3))
  variables = stem.init(jax.random.key(0), x, train=False)
  draw = {"scale": (1, 1), "bias": (0, 1), "mean": (0, 0.1)}

  def drawn(path, leaf):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return generator.normal(*draw[name], leaf.shape) if name in draw else leaf.astype("float64")

  variables = jax.tree_util.tree_map_with_path(drawn, variables)
  shape = jax.eval_shape(lambda: stem.apply(variables, x, train=False)).shape
  return variables, x, generator.normal(size=shape)


@functools.partial(jax.jit, static_argnums=(0, 4))
def outputs_and_gradients(stem, variables, x, d_y, train, mask=None):
  masks = {} if mask is None else row_mask(mask)
  statistics = {"batch_stats": variables["batch_stats"], **masks}

  def apply(params, x):
    variables = {"params": params, **statistics}
    return stem.apply(variables, x, train=train, mutable=["batch_stats", "batch_moments"])

  y, vjp, left = jax.vjp(apply, variables["params"], x, has_aux=True)
  return y, left, vjp(d_y)


def has_packed(stem, variables, x, train):
  """Whether the channels of four images lie side by side."""

  def apply(x):
    return stem.apply(variables, x, train=train, mutable=["batch_stats"])

  return f"[{x.shape[0] // 4},11,9,12]" in str(jax.make_jaxpr(apply)(x))


def assert_close(found, expected):
  jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)
