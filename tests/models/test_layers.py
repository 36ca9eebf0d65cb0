"""The layers that all networks share: initialisation, dropout, the convolution block."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax.models import features, ops
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.features import FEATURES, LINEAR_OUTPUTS, NONLINEARITY_INPUTS
from speedpaper_jax.models.layers import (
  ACTIVATIONS,
  ConvBlock,
  Dropout,
  LayerSettings,
  apply_and_pool,
  apply_siblings,
  kernel_init,
  network_input,
)

KEYS = {"dropout": jax.random.key(7)}
X = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype("float32")


class TestKernelInit:
  @pytest.mark.parametrize(
    ("shape", "fan_in"), [((3, 3, 64, 96), 576), ((1, 1, 256, 128), 256), ((512, 200), 512)]
  )
  def test_is_a_normal_distribution_of_variance_2_over_fan_in_cut_at_two_deviations(
    self, shape, fan_in
  ):
    values = np.asarray(kernel_init(jax.random.key(0), shape, jnp.float32))
    std = np.sqrt(2 / fan_in)
    # The standard errors of mean and deviation are std/√n and about std/√(2n), n > 30,000.
    assert_allclose(values.mean(), 0, atol=0.02 * std)
    assert_allclose(values.std(), std, rtol=0.02)
    # Cut at two deviations of the normal distribution before it was cut, whose 0.8796 is `std`.
    bound = 2 * std / 0.8796
    assert 0.99 * bound < np.abs(values).max() < 1.001 * bound

  def test_is_the_same_compiled_or_not_and_in_every_run(self):
    def draw(key):
      return kernel_init(key, (3, 3, 2, 4), jnp.float32)

    values = draw(jax.random.key(1))
    assert_array_equal(jax.jit(draw)(jax.random.key(1)), values)
    assert_array_equal(draw(jax.random.key(1)), values)

  @pytest.mark.parametrize("jitted", [False, True])
  def test_an_ensembles_members_are_what_they_are_alone(self, jitted):
    def draw(key):
      return kernel_init(key, (3, 3, 2, 4), jnp.float32)

    keys = jax.random.split(jax.random.key(1), 6).reshape(2, 3)
    together = jax.vmap(jax.vmap(draw))
    members = (jax.jit(together) if jitted else together)(keys)
    for index in np.ndindex(2, 3):
      assert_array_equal(members[index], draw(keys[index]))

  def test_differs_with_the_key(self):
    one, other = (kernel_init(jax.random.key(seed), (5, 5), jnp.float32) for seed in (0, 1))
    assert not np.any(one == other)

  def test_is_drawn_in_float32_whatever_the_dtype(self):
    with jax.enable_x64(True):
      wide = kernel_init(jax.random.key(0), (5, 5), jnp.float64)
      assert wide.dtype == jnp.float64
      assert_array_equal(wide, kernel_init(jax.random.key(0), (5, 5), jnp.float32))


class TestNetworkInput:
  @pytest.mark.parametrize(
    "shape",
    [(8, 8, 3), (8, 8), (3,), (), (1, 2, 8, 8, 3), (2, 3, 8, 8), (2, 8, 8, 1), (2, 8, 8, 4)],
  )
  def test_what_is_no_batch_of_rgb_images_is_refused(self, shape):
    with pytest.raises(ValueError, match=r"are no batch of RGB images, \[N, H, W, 3\]"):
      network_input(jnp.zeros(shape), LayerSettings())

  @pytest.mark.parametrize(("channels", "kind"), [(1, "1 channel"), (4, "4 channels")])
  def test_other_channels_are_the_settings_to_say(self, channels, kind):
    settings = LayerSettings(channels=channels)
    images = jnp.zeros((2, 8, 8, channels))
    assert network_input(images, settings).shape == images.shape
    message = rf"\(2, 8, 8, 3\) are no batch of images of {kind}, \[N, H, W, {channels}\]"
    with pytest.raises(ValueError, match=message):
      network_input(jnp.zeros((2, 8, 8, 3)), settings)

  @pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
  def test_what_is_not_normalised_is_refused(self, dtype):
    with pytest.raises(ValueError, match=f"Images of {dtype} are not normalised"):
      network_input(jnp.zeros((2, 8, 8, 3), dtype), LayerSettings())

  @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
  def test_floats_are_taken_to_the_dtype_of_the_activations(self, dtype):
    settings = LayerSettings(dtype=jnp.bfloat16)
    assert network_input(jnp.zeros((2, 8, 8, 3), dtype), settings).dtype == jnp.bfloat16


class TestDropout:
  def test_divides_what_it_keeps_by_the_probability_to_keep(self):
    y = Dropout(0.4).apply({}, jnp.full((200, 100), 3.0), train=True, rngs=KEYS)
    kept = np.asarray(y) != 0
    assert_allclose(y[kept], 3 / 0.6, rtol=1e-6)
    # Five standard errors.
    assert_allclose(kept.mean(), 0.6, atol=5 * np.sqrt(0.6 * 0.4 / kept.size))
    assert_allclose(kept.mean(0), 0.6, atol=5 * np.sqrt(0.6 * 0.4 / 200))
    assert_allclose(kept.mean(1), 0.6, atol=5 * np.sqrt(0.6 * 0.4 / 100))

  @pytest.mark.parametrize(("rate", "is_training"), [(0.4, False), (0.0, True)])
  def test_changes_nothing_in_evaluation_or_at_rate_zero(self, rate, is_training):
    x = jnp.arange(12.0).reshape(3, 4)
    assert_array_equal(Dropout(rate).apply({}, x, train=is_training), x)

  def test_the_mask_does_not_depend_on_how_the_batch_is_divided(self):
    x = jnp.ones((16, 10))
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Auto,))
    by_rows = PartitionSpec("devices")
    dropout = Dropout(0.4, axis_name="devices")
    divided = jax.shard_map(
      lambda x: dropout.apply({}, x, train=True, rngs=KEYS),
      mesh=mesh,
      in_specs=by_rows,
      out_specs=by_rows,
      check_vma=False,
    )
    whole = Dropout(0.4).apply({}, x, train=True, rngs=KEYS)
    assert_array_equal(jax.jit(divided)(x), whole)
    assert len(np.unique(whole, axis=0)) == 16  # no two rows have the same mask

  def test_the_mask_differs_with_the_key(self):
    x = jnp.ones((4, 50))
    one, other = (
      Dropout(0.4).apply({}, x, train=True, rngs={"dropout": jax.random.key(seed)})
      for seed in (0, 1)
    )
    assert np.any(one != other)


class TestConvBlock:
  def shapes(self, block, x=X):
    """Shapes of all variables, and of the output."""
    y, variables = jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), x, train=True))
    return jax.tree.map(lambda leaf: leaf.shape, variables), y.shape

  def test_has_a_bias_exactly_when_it_has_no_batch_norm(self):
    with_batch_norm, _ = self.shapes(ConvBlock(4, (3, 3), LayerSettings()))
    without, _ = self.shapes(ConvBlock(4, (3, 3), LayerSettings(batch_norm=None)))
    assert with_batch_norm == {
      "params": {"conv": {"kernel": (3, 3, 3, 4)}, "batch_norm": {"scale": (4,), "bias": (4,)}},
      "batch_stats": {"batch_norm": {"mean": (4,), "var": (4,)}},
    }
    assert without == {"params": {"conv": {"kernel": (3, 3, 3, 4), "bias": (4,)}}}

  @pytest.mark.parametrize(
    ("strides", "padding", "expected"),
    [(1, "SAME", (9, 8)), (2, "SAME", (5, 4)), (1, "VALID", (7, 6)), (2, "VALID", (4, 3))],
  )
  def test_strides_and_padding_are_tensorflow_s(self, strides, padding, expected):
    _, output = self.shapes(ConvBlock(4, (3, 3), LayerSettings(), strides, padding))
    assert output == (2, *expected, 4)

  def test_is_separable_with_a_depth_multiplier(self):
    """8 filters on each of 3 channels alone, then 1×1 over the 24; the stride comes first."""
    block = ConvBlock(4, (7, 7), LayerSettings(), 2, depth_multiplier=8)
    variables, output = self.shapes(block)
    assert variables["params"] == {
      "conv": {"depthwise_kernel": (7, 7, 1, 24), "pointwise_kernel": (1, 1, 24, 4)},
      "batch_norm": {"scale": (4,), "bias": (4,)},
    }
    assert output == (2, 5, 4, 4)

  def test_a_separable_one_has_one_bias_when_it_has_no_batch_norm(self):
    block = ConvBlock(4, (7, 7), LayerSettings(batch_norm=None), 2, depth_multiplier=8)
    variables, _ = self.shapes(block)
    assert variables["params"]["conv"].keys() == {"depthwise_kernel", "pointwise_kernel", "bias"}
    assert variables["params"]["conv"]["bias"] == (4,)

  @pytest.mark.parametrize("operations", [ops.PLAIN, ops.CPU], ids=["plain", "cpu"])
  def test_each_channel_has_depthwise_filters_of_its_own(self, operations):
    settings = LayerSettings(batch_norm=None, operations=operations)
    block = ConvBlock(4, (3, 3), settings, depth_multiplier=2)
    variables = block.init(jax.random.key(0), X, train=False)
    # Pass on the first two of six: the filters of the first channel.
    pointwise = np.zeros((1, 1, 6, 4), "float32")
    pointwise[0, 0, :2] = 1
    variables["params"]["conv"]["pointwise_kernel"] = pointwise
    other_channels = X.copy()
    other_channels[..., 1:] = 0
    y = block.apply(variables, X, train=False)
    assert np.any(y != 0)
    assert_allclose(y, block.apply(variables, other_channels, train=False), atol=1e-6)

  @pytest.mark.parametrize(
    ("name", "g"),
    [("relu", lambda z: np.maximum(z, 0)), ("sigmoid", lambda z: 1 / (1 + np.exp(-z)))],
  )
  def test_normalizes_before_the_nonlinearity(self, name, g):
    """z = g(BN(Wu)), here with a 1×1 convolution."""
    block = ConvBlock(4, (1, 1), LayerSettings(BatchNorm(epsilon=1e-3), name))
    variables = block.init(jax.random.key(0), X, train=True)
    z, _ = block.apply(variables, X, train=True, mutable=["batch_stats"])
    product = X @ np.asarray(variables["params"]["conv"]["kernel"])[0, 0]
    axes = (0, 1, 2)
    expected = g((product - product.mean(axes)) / np.sqrt(product.var(axes) + 1e-3))
    assert_allclose(z, expected, rtol=1e-4, atol=1e-5)

  def test_activations_have_the_settings_dtype_and_parameters_are_float32(self):
    block = ConvBlock(4, (3, 3), LayerSettings(dtype=jnp.bfloat16))
    y, variables = jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), X, train=True))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


class Siblings(nn.Module):
  """1×1 convolutions of the same input, the last one behind an average pool."""

  settings: LayerSettings

  @nn.compact
  def __call__(self, x, *, train):
    blocks = [
      ConvBlock(filters, (1, 1), self.settings, name=f"conv_{filters}") for filters in (2, 4)
    ]
    blocks.append(ConvBlock(5, (1, 1), self.settings, after_avg_pool=True, name="pool_proj"))
    outputs = apply_siblings(self, blocks, x, train=train)
    assert list(outputs) == ["conv_2", "conv_4", "pool_proj"]
    return jnp.concatenate(list(outputs.values()), -1)


class TestSiblings:
  @staticmethod
  def outputs_and_gradients(operations, variables, **settings):
    network = Siblings(LayerSettings(operations=operations, **settings))
    weights = np.random.default_rng(1).normal(size=(2, 9, 8, 11)).astype("float32")

    def loss(params, x):
      y, updated = network.apply(
        {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
      )
      return jnp.sum(y * weights), (y, updated)

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], X)

  @pytest.mark.parametrize("batch_norm", [None, BatchNorm()], ids=["bias", "batch_norm"])
  @pytest.mark.parametrize("count_padding", [False, True])
  def test_as_one_and_pooled_last_they_are_as_they_were(self, batch_norm, count_padding):
    settings = {"batch_norm": batch_norm, "count_padding": count_padding}
    variables = Siblings(LayerSettings(**settings)).init(jax.random.key(0), X, train=False)
    if batch_norm is None:  # a bias that is not zero, and so would show if it were pooled
      variables = jax.tree.map(lambda leaf: leaf + 0.5, variables)
    fast = ops.PLAIN._replace(reorders=lambda shape: True)
    expected = self.outputs_and_gradients(ops.PLAIN, variables, **settings)
    found = self.outputs_and_gradients(fast, variables, **settings)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-4), found, expected)

  def test_they_are_one_convolution(self):
    network = Siblings(LayerSettings(operations=ops.ACCELERATOR))
    variables = network.init(jax.random.key(0), X, train=False)
    program = str(jax.make_jaxpr(lambda x: network.apply(variables, x, train=False))(X))
    assert program.count("conv_general_dilated[") == 1

  def test_their_initial_values_are_those_of_the_plain_form(self):
    one, other = (
      Siblings(LayerSettings(operations=form)).init(jax.random.key(0), X, train=False)
      for form in (ops.PLAIN, ops.ACCELERATOR)
    )
    jax.tree.map(assert_array_equal, one, other)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("batch_norm", [None, BatchNorm()])
def test_a_blocks_output_is_the_nonlinearity_of_what_it_leaves(activation, batch_norm):
  block = ConvBlock(4, (3, 3), LayerSettings(batch_norm, activation))
  variables = block.init(KEYS["dropout"], X, train=False)
  (inputs,) = features.nonlinearity_inputs(block, variables, X, train=True).values()
  outputs, _ = block.apply(variables, X, train=True, mutable=["batch_stats"])
  assert_allclose(ACTIVATIONS[activation](inputs), outputs, rtol=1e-6)


class Pooled(nn.Module):
  """A layer and the max pool behind it."""

  settings: LayerSettings

  @nn.compact
  def __call__(self, x, *, train):
    block = ConvBlock(4, (3, 3), self.settings, name="conv")
    return apply_and_pool(self, block, x, lambda x: ops.max_pool(x, 3, 2, "SAME"), train=train)


class TestMaxPoolBehindALayer:
  first = LayerSettings(operations=ops.PLAIN._replace(reorders=lambda shape: True))
  last = LayerSettings(operations=ops.PLAIN)

  @pytest.fixture
  def variables(self):
    variables = Pooled(self.last).init(jax.random.key(0), X, train=False)
    scale = jnp.array([1.0, -1.0, 0.5, -2.0])
    variables["params"]["conv"]["batch_norm"]["scale"] = scale
    return variables

  @staticmethod
  def normalised_shapes(settings, variables):
    """Shapes of what the nonlinearity is applied to."""

    def apply(x):
      return Pooled(settings).apply(variables, x, train=False)

    program = jax.make_jaxpr(apply)(X)
    return [
      each.invars[0].aval.shape
      for each in program.jaxpr.eqns
      if each.params.get("name") == "relu" or each.primitive.name == "custom_jvp_call"
    ]

  @pytest.mark.parametrize("train", [False, True])
  @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
  def test_is_the_same_before_normalization(self, variables, train, activation):
    found, expected = (
      Pooled(dataclasses.replace(settings, activation=activation)).apply(
        variables, X, train=train, mutable=["batch_stats"]
      )
      for settings in (self.first, self.last)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)

  def test_fewer_values_are_normalised(self, variables):
    n, height, width, _ = X.shape
    assert self.normalised_shapes(self.last, variables) == [(n, height, width, 4)]
    assert self.normalised_shapes(self.first, variables) == [
      (n, -(-height // 2), -(-width // 2), 4)
    ]

  @pytest.mark.parametrize("collection", [FEATURES, LINEAR_OUTPUTS, NONLINEARITY_INPUTS])
  def test_comes_last_where_somebody_asks_for_what_is_before_it(self, variables, collection):
    found, expected = (
      Pooled(settings).apply(variables, X, train=False, mutable=[collection])
      for settings in (self.first, self.last)
    )
    assert jax.tree.leaves(expected[1])
    jax.tree.map(assert_array_equal, found, expected)

  def test_comes_last_where_features_are_single_activations(self):
    settings = dataclasses.replace(self.first, batch_norm=BatchNorm(per_activation_layers=("**",)))
    variables = Pooled(settings).init(jax.random.key(0), X, train=False)
    assert variables["params"]["conv"]["batch_norm"]["scale"].shape == (*X.shape[1:3], 4)
