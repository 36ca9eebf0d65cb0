"""Batch Normalization: Algorithm 1 and its gradient, Algorithm 2, section 3.3's invariances."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax.models.batch_norm import (
  BatchNorm,
  combine_moments,
  group_moments,
  normalize,
  recompute_population_statistics,
  row_mask,
  split_groups,
)

FULLY_CONNECTED = (12, 5)
CONVOLUTIONAL = (8, 5, 3, 4)
few_examples = settings(derandomize=True, database=None, deadline=None, max_examples=10)
seeds = st.integers(0, 2**32 - 1)
both_ways = pytest.mark.parametrize("in_one_pass", [False, True], ids=["two_passes", "one_pass"])


def random(seed, shape, dtype="float64"):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def random_variables(seed, shape, dtype="float64"):
  """γ, β and running statistics of a trained layer."""
  scale, bias, mean, var = np.random.default_rng(seed).uniform(0.5, 2, (4, *np.atleast_1d(shape)))
  variables = {
    "params": {"scale": scale, "bias": bias},
    "batch_stats": {"mean": mean, "var": var},
  }
  return jax.tree.map(lambda x: x.astype(dtype), variables)


@functools.partial(jax.jit, static_argnums=0)
def train(module, variables, x):
  """Returns y and the updated batch_stats."""
  y, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
  return y, updated["batch_stats"]


def transform(module, x):
  """x̂: the module's output with γ = 1 and β = 0."""
  return train(module, module.init(jax.random.key(0), x, train=True), x)[0]


@functools.partial(jax.jit, static_argnames=("epsilon", "groups", "per_activation"))
def reference(x, scale, bias, epsilon, groups=1, per_activation=False):
  """Algorithm 1 as it is printed."""
  grouped = x.reshape(groups, -1, *x.shape[1:])
  axes = (1,) if per_activation else tuple(range(1, grouped.ndim - 1))
  mean = grouped.mean(axes, keepdims=True)
  variance = ((grouped - mean) ** 2).mean(axes, keepdims=True)
  x_hat = (grouped - mean) / jnp.sqrt(variance + epsilon)
  return (scale * x_hat + bias).reshape(x.shape)


class TestAgainstTorch:
  """float32, where a mean is known to about |mean|/std · 1e-7 standard deviations."""

  @pytest.fixture
  def torch(self):
    return pytest.importorskip("torch", reason="PyTorch is the reference")

  @pytest.mark.parametrize(
    ("shape", "mean", "std"),
    [
      ((32, 10), 0, 1),
      ((32, 10), 10, 0.1),
      ((2, 3), 0, 1),
      ((8, 5, 7, 6), 0, 1),
      ((8, 5, 7, 6), 10, 0.1),
      ((8, 5, 7, 6), -3, 20),
    ],
  )
  @both_ways
  def test_outputs_gradients_and_running_statistics(self, torch, shape, mean, std, in_one_pass):
    variables = random_variables(0, shape[-1], "float32")
    module = BatchNorm(decay=0.9, epsilon=1e-3, moments_in_one_pass=in_one_pass)
    tolerance = 1e-5 * max(1, abs(mean) / std / 10)
    layer_class = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    layer = layer_class(shape[-1], eps=1e-3, momentum=0.1)
    with torch.no_grad():
      for ours, theirs in [
        (variables["params"]["scale"], layer.weight),
        (variables["params"]["bias"], layer.bias),
        (variables["batch_stats"]["mean"], layer.running_mean),
        (variables["batch_stats"]["var"], layer.running_var),
      ]:
        theirs.copy_(torch.from_numpy(ours))
    channels_first = (0, len(shape) - 1, *range(1, len(shape) - 1))

    def to_torch(x):
      return torch.from_numpy(np.ascontiguousarray(x.transpose(channels_first)))

    def from_torch(x):
      return x.detach().numpy().transpose(np.argsort(channels_first))

    for step in range(4):
      x = (mean + std * random(step, shape)).astype("float32")
      d_y = random(100 + step, shape, "float32")
      y, vjp, batch_stats = jax.vjp(
        lambda params, x: train(module, {**variables, "params": params}, x),
        variables["params"],
        x,
        has_aux=True,
      )
      d_params, d_x = vjp(d_y)
      x_torch = to_torch(x).requires_grad_()
      layer.zero_grad()
      y_torch = layer(x_torch)
      y_torch.backward(to_torch(d_y))

      for ours, theirs in [
        (y, from_torch(y_torch)),
        (d_x, from_torch(x_torch.grad)),
        (d_params["scale"], layer.weight.grad),
        (d_params["bias"], layer.bias.grad),
        (batch_stats["mean"], layer.running_mean),
        (batch_stats["var"], layer.running_var),
      ]:
        assert_close(ours, theirs, tolerance)
      variables["batch_stats"] = batch_stats

    layer.eval()
    inference = module.apply(variables, x, train=False)
    assert_close(inference, from_torch(layer(to_torch(x))), tolerance)


def assert_close(actual, desired, tolerance):
  """Errors are relative to the largest value, or absolute where that is below one."""
  desired = np.asarray(desired)
  assert_allclose(actual, desired, rtol=0, atol=tolerance * max(1, np.abs(desired).max()))


@pytest.mark.usefixtures("float64")
class TestBackward:
  """The six equations against automatic differentiation of Algorithm 1."""

  @pytest.mark.parametrize("shape", [FULLY_CONNECTED, CONVOLUTIONAL], ids=["fc", "conv"])
  @pytest.mark.parametrize("per_activation", [False, True])
  @pytest.mark.parametrize("virtual_batch_size", [None, 4])
  @both_ways
  def test_equals_autodiff(self, shape, per_activation, virtual_batch_size, in_one_pass):
    module = BatchNorm(
      per_activation=per_activation,
      virtual_batch_size=virtual_batch_size,
      moments_in_one_pass=in_one_pass,
    )
    groups = shape[0] // (virtual_batch_size or shape[0])
    x = 3 + random(0, shape)
    variables = random_variables(1, shape[1:] if per_activation else shape[-1:])

    def ours(params, x):
      return train(module, {**variables, "params": params}, x)[0]

    def theirs(params, x):
      return reference(x, params["scale"], params["bias"], 1e-3, groups, per_activation)

    y, vjp = jax.vjp(ours, variables["params"], x)
    y_reference, vjp_reference = jax.vjp(theirs, variables["params"], x)
    assert_allclose(y, y_reference, rtol=0, atol=1e-10)
    d_y = random(2, shape)
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-10), vjp(d_y), vjp_reference(d_y))

  @pytest.mark.parametrize(
    ("use_scale", "use_bias"), [(True, True), (True, False), (False, True), (False, False)]
  )
  def test_scale_and_bias_can_be_left_out(self, use_scale, use_bias):
    module = BatchNorm(use_scale=use_scale, use_bias=use_bias)
    x = random(0, CONVOLUTIONAL)
    variables = module.init(jax.random.key(0), x, train=True)
    params = {"scale": jnp.full(4, 2.0)} if use_scale else {}
    params |= {"bias": jnp.full(4, 3.0)} if use_bias else {}
    assert params.keys() == variables.get("params", {}).keys()

    def ours(params, x):
      return train(module, {**variables, "params": params}, x)[0]

    def theirs(params, x):
      return reference(x, params.get("scale", 1.0), params.get("bias", 0.0), 1e-3)

    y, vjp = jax.vjp(ours, params, x)
    y_reference, vjp_reference = jax.vjp(theirs, params, x)
    assert_allclose(y, y_reference, rtol=0, atol=1e-10)
    d_y = random(1, CONVOLUTIONAL)
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-10), vjp(d_y), vjp_reference(d_y))

  def test_running_statistics_carry_no_gradient(self):
    x = random(0, FULLY_CONNECTED)
    variables = random_variables(1, 5)

    def summed_statistics(x):
      return sum(jnp.sum(leaf) for leaf in train(BatchNorm(), variables, x)[1].values())

    assert_array_equal(jax.grad(summed_statistics)(x), np.zeros_like(x))


@pytest.mark.usefixtures("float64")
class TestForwardMode:
  """Its tangents are those of Algorithm 1, and what is transposed again the six equations."""

  def functions(self, mask=None):
    """`normalize`'s y and the printed algorithm, of x, γ and β in two groups."""
    x, scale, bias = 3 + random(0, CONVOLUTIONAL), random(1, 4), random(2, 4)

    def ours(x, scale, bias):
      grouped = split_groups(x, 2)
      return normalize(grouped, scale, bias, 1e-3, False, None, mask)[0].reshape(x.shape)

    return ours, functools.partial(reference, epsilon=1e-3, groups=2), (x, scale, bias)

  def test_equals_autodiff(self):
    ours, theirs, inputs = self.functions()
    tangents = tuple(random(3 + i, value.shape) for i, value in enumerate(inputs))
    actual, expected = (jax.jvp(function, inputs, tangents) for function in (ours, theirs))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10), actual, expected)

  @pytest.mark.parametrize(
    "of_gradient",
    [
      lambda gradient, inputs, tangents: jax.jvp(gradient, inputs, tangents)[1],
      lambda gradient, inputs, tangents: jax.vjp(gradient, *inputs)[1](tangents),
      lambda gradient, inputs, _: jax.vmap(gradient)(*(jnp.stack([x, 2 * x]) for x in inputs)),
    ],
    ids=["forward_over_reverse", "reverse_over_reverse", "vmap"],
  )
  def test_transforms_of_the_gradient(self, of_gradient):
    ours, theirs, inputs = self.functions()
    tangents = tuple(random(3 + i, value.shape) for i, value in enumerate(inputs))
    actual, expected = (
      of_gradient(
        jax.grad(lambda *inputs, f=function: jnp.sum(f(*inputs) ** 3), (0, 1, 2)), inputs, tangents
      )
      for function in (ours, theirs)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-8), actual, expected)

  def test_running_statistics_have_no_tangent(self):
    x = random(0, FULLY_CONNECTED)
    variables = random_variables(1, 5)
    _, tangents = jax.jvp(lambda x: train(BatchNorm(), variables, x)[1], (x,), (x,))
    jax.tree.map(lambda tangent: assert_array_equal(tangent, np.zeros(5)), tangents)


def test_the_input_is_the_only_activation_kept_for_the_backward_pass():
  x = jnp.asarray(random(0, CONVOLUTIONAL, "float32"))
  variables = random_variables(1, 4, "float32")
  _, vjp = jax.vjp(
    lambda params, x: train(BatchNorm(), {**variables, "params": params}, x)[0],
    variables["params"],
    x,
  )
  large = [leaf for leaf in jax.tree.leaves(vjp) if leaf.size > x.shape[-1]]
  assert len(large) == 1
  assert_array_equal(large[0].reshape(x.shape), x)


@pytest.mark.usefixtures("float64")
class TestIdentities:
  """What Algorithm 1 says of x̂."""

  @pytest.mark.parametrize("shape", [FULLY_CONNECTED, CONVOLUTIONAL])
  @pytest.mark.parametrize("epsilon", [1e-5, 1e-3, 0.1])
  def test_mean_and_variance_of_the_normalized_values(self, shape, epsilon):
    x = 5 + 0.3 * random(0, shape)
    axes = tuple(range(len(shape) - 1))
    x_hat = np.asarray(transform(BatchNorm(epsilon=epsilon), x))
    assert_allclose(x_hat.sum(axes), 0, atol=1e-10)
    assert_allclose((x_hat**2).mean(axes), x.var(axes) / (x.var(axes) + epsilon), rtol=1e-10)

  @few_examples
  @given(seed=seeds, mean=st.floats(-100, 100), std=st.floats(0.01, 100))
  def test_a_scale_of_the_deviation_and_a_bias_of_the_mean_recover_the_input(self, seed, mean, std):
    x = mean + std * random(seed, FULLY_CONNECTED)
    params = {"scale": np.sqrt(x.var(0) + 1e-3), "bias": x.mean(0)}
    variables = {**random_variables(seed, 5), "params": params}
    with jax.enable_x64(True):
      assert_allclose(train(BatchNorm(), variables, x)[0], x, rtol=1e-10, atol=1e-10)

  def test_in_training_an_example_depends_on_the_rest_of_its_batch(self):
    x = random(0, FULLY_CONNECTED)
    others = x.copy()
    others[1:] += random(1, others[1:].shape)
    difference = transform(BatchNorm(), x)[0] - transform(BatchNorm(), others)[0]
    assert np.all(np.abs(difference) > 1e-3)

  def test_in_inference_it_does_not(self):
    x = random(0, FULLY_CONNECTED)
    variables = random_variables(1, 5)
    # Three rows do not divide into groups of two: inference knows no groups.
    module = BatchNorm(virtual_batch_size=2)
    in_batch = module.apply(variables, x, train=False)
    assert_allclose(module.apply(variables, x[:3], train=False), in_batch[:3], rtol=1e-14)
    assert_allclose(module.apply(variables, x[:1], train=False), in_batch[:1], rtol=1e-14)


class TestScaleInvariance:
  """Section 3.3, exact in the limit of a vanishing ε."""

  @few_examples
  @given(seed=seeds, log_a=st.floats(-5, 5))
  def test_scaled_weights_give_the_same_outputs_and_smaller_gradients(self, seed, log_a):
    a = np.exp(log_a)
    u, weights = random(seed, (16, 6)), random(seed + 1, (6, 5))
    variables, d_y = random_variables(seed + 2, 5), random(seed + 3, (16, 5))

    def bn(weights, u):
      return train(BatchNorm(epsilon=1e-20), variables, u @ weights)[0]

    with jax.enable_x64(True):
      y, vjp = jax.vjp(bn, weights, u)
      y_scaled, vjp_scaled = jax.vjp(bn, a * weights, u)
      d_weights, d_u = vjp(d_y)
      d_weights_scaled, d_u_scaled = vjp_scaled(d_y)
      assert_allclose(y_scaled, y, rtol=1e-9, atol=1e-9)
      assert_allclose(d_u_scaled, d_u, rtol=1e-9, atol=1e-9)
      assert_allclose(a * d_weights_scaled, d_weights, rtol=1e-9, atol=1e-9)


class TestVariance:
  @few_examples
  @given(seed=seeds, mean=st.floats(-1e4, 1e4, width=32), std=st.sampled_from([0, 1e-4, 1e-2, 1]))
  def test_is_accurate_and_never_negative_in_float32(self, seed, mean, std):
    x = (mean + std * random(seed, (64, 3))).astype("float32")
    variance = group_moments(split_groups(x, 1), False).variance.ravel()
    assert np.all(variance >= 0)
    # E[x²] - E[x]² would be off by up to 8: x² is about 1e8 and has seven digits.
    rounding = np.finfo("float32").eps * abs(mean)
    assert_allclose(variance, x.astype("float64").var(0), rtol=1e-5, atol=(4 * rounding) ** 2)

  @pytest.mark.parametrize("value", [0, 1e4, -1e4])
  def test_a_constant_feature_becomes_its_bias(self, value):
    x = np.full((64, 3), value, "float32")
    assert_array_equal(transform(BatchNorm(), x), np.zeros_like(x))

  @few_examples
  @given(seed=seeds, parts=st.sampled_from([1, 2, 3, 4, 8]), mean=st.floats(-1e3, 1e3))
  def test_moments_of_parts_combine_into_those_of_the_whole(self, seed, parts, mean):
    x = mean + random(seed, (24, 3)) * np.arange(1, 25)[:, None]
    with jax.enable_x64(True):
      of_parts = group_moments(split_groups(x, parts), False)
      joint = combine_moments(of_parts)
      assert of_parts.count == 24 // parts
      assert np.all(joint.count == 24)
      assert_allclose(joint.mean.ravel(), x.mean(0), rtol=1e-12, atol=1e-12)
      assert_allclose(joint.variance.ravel(), x.var(0), rtol=1e-12)
      assert_allclose(joint.unbiased_variance.ravel(), x.var(0, ddof=1), rtol=1e-12)

  def test_count_is_over_the_batch_and_all_locations(self):
    x = split_groups(jnp.zeros(CONVOLUTIONAL), 2)
    assert group_moments(x, per_activation=False).count == 4 * 5 * 3
    assert group_moments(x, per_activation=True).count == 4


class TestMomentsInOnePass:
  """They are as exact as those of two passes, wherever the pivot is."""

  @staticmethod
  def moments(x, pivot):
    return group_moments(split_groups(jnp.asarray(x), 1), False, pivot=jnp.asarray(pivot))

  @few_examples
  @given(seed=seeds, mean=st.floats(-1e4, 1e4, width=32), std=st.sampled_from([0, 1e-4, 1e-2, 1]))
  def test_are_accurate_and_never_negative_in_float32(self, seed, mean, std):
    x = (mean + std * random(seed, (64, 3))).astype("float32")
    exact = x.astype("float64").var(0)
    rounding = np.finfo("float32").eps * abs(mean)
    for pivot in (0, mean, mean + 3 * std, mean - 1e3):
      variance = self.moments(x, np.full(3, pivot, "float32")).variance.ravel()
      assert np.all(variance >= 0)
      assert_allclose(variance, exact, rtol=1e-5, atol=(4 * rounding) ** 2)

  def test_would_be_wrong_in_float32_without_a_second_one(self):
    """A mean of a hundred deviations, which the pivot does not know."""
    x = (100 + random(0, (4096, 3))).astype("float32")
    exact, pivot = x.astype("float64").var(0), jnp.zeros(3)
    assert_allclose(self.moments(x, pivot).variance.ravel(), exact, rtol=1e-5)
    cancelled = np.mean(x * x, 0) - np.mean(x, 0) ** 2
    assert np.abs(cancelled / exact - 1).max() > 1e-4

  @pytest.mark.parametrize("mean", [0, 1, 10, 100])
  def test_need_no_second_one_for_bfloat16(self, mean):
    """Whose rounding moves the variance by far more, where the mean is many deviations."""
    unrounded = mean + random(0, (4096, 3))
    x = jnp.asarray(unrounded, jnp.bfloat16)
    exact = np.asarray(x, "float64").var(0)
    error = np.abs(self.moments(x, np.zeros(3, "float32")).variance.ravel() / exact - 1)
    of_rounding = np.abs(exact / unrounded.var(0) - 1)
    assert np.all(error < np.maximum(1e-5, 0.05 * of_rounding))
    program = jax.make_jaxpr(lambda x, pivot: self.moments(x, pivot).m2)(x, jnp.zeros(3))
    assert "cond" not in str(program)

  @pytest.mark.parametrize("value", [0, 1e4, -1e4])
  @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
  def test_a_constant_feature_becomes_its_bias(self, value, dtype):
    x = jnp.full((64, 3), value, dtype)
    y = transform(BatchNorm(moments_in_one_pass=True), x)
    assert_allclose(np.asarray(y, "float32"), np.zeros(x.shape), atol=1e-3)

  def test_a_feature_that_is_not_finite_is_none_of_the_others_concern(self):
    x = random(0, (64, 3), "float32")
    x[3, 1] = np.inf
    moments = self.moments(x, np.zeros(3, "float32"))
    assert not np.isfinite(moments.variance.ravel()[1])
    assert_allclose(moments.variance.ravel()[::2], x[:, ::2].var(0), rtol=1e-5)


class TestVirtualBatches:
  @pytest.mark.parametrize("shape", [FULLY_CONNECTED, CONVOLUTIONAL])
  @pytest.mark.parametrize("unbiased", [True, False])
  @pytest.mark.usefixtures("float64")
  def test_each_group_is_normalized_alone_and_statistics_are_averaged(self, shape, unbiased):
    x = random(0, shape)
    variables = random_variables(1, shape[-1])
    alone = BatchNorm(decay=0.9, unbiased_running_variance=unbiased)
    y, batch_stats = train(alone.copy(virtual_batch_size=4), variables, x)
    separate = [train(alone, variables, x[i : i + 4]) for i in range(0, len(x), 4)]
    assert_allclose(y, np.concatenate([y for y, _ in separate]), rtol=1e-12, atol=1e-12)
    for name in ("mean", "var"):
      average = np.mean([stats[name] for _, stats in separate], axis=0)
      assert_allclose(batch_stats[name], average, rtol=1e-12)

  def test_rows_that_do_not_divide_are_refused(self):
    with pytest.raises(ValueError, match="12 rows does not divide into groups of virtual"):
      train(BatchNorm(virtual_batch_size=5), random_variables(0, 5), np.zeros((12, 5)))
    with pytest.raises(ValueError, match="12 rows do not divide into 5 groups"):
      split_groups(jnp.zeros((12, 5)), 5)

  @pytest.mark.parametrize(
    ("module", "shape"),
    [
      (BatchNorm(), (1, 5)),
      (BatchNorm(virtual_batch_size=1), (12, 5)),
      (BatchNorm(), (1, 1, 1, 5)),
      (BatchNorm(per_activation=True), (1, 4, 4, 5)),
    ],
  )
  def test_a_single_value_of_a_feature_is_refused(self, module, shape):
    features = shape[1:] if module.per_activation else shape[-1:]
    with pytest.raises(ValueError, match="more than one value of each feature"):
      train(module, random_variables(0, features), np.zeros(shape))

  def test_a_single_row_initializes_and_leaves_the_statistics_alone(self):
    module = BatchNorm(virtual_batch_size=32, axis_name="devices")
    variables = module.init(jax.random.key(0), jnp.ones((1, 5)), train=True)
    expected = {
      "params": {"scale": np.ones(5), "bias": np.zeros(5)},
      "batch_stats": {"mean": np.zeros(5), "var": np.ones(5)},
    }
    jax.tree.map(assert_array_equal, variables, expected)


class TestReducedPrecision:
  @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
  @pytest.mark.parametrize("is_training", [True, False])
  def test_statistics_and_arithmetic_are_in_float32(self, dtype, is_training):
    x = (20 + random(0, (64, 4, 4, 3))).astype(dtype)
    d_y = random(1, x.shape).astype(dtype)
    variables = random_variables(2, 3, "float32")

    def apply(params, x):
      return BatchNorm().apply(
        {**variables, "params": params}, x, train=is_training, mutable=["batch_stats"]
      )

    y, vjp, updated = jax.vjp(apply, variables["params"], x, has_aux=True)
    y_wide, vjp_wide, updated_wide = jax.vjp(
      apply, variables["params"], x.astype("float32"), has_aux=True
    )
    assert y.dtype == dtype
    assert_array_equal(y, y_wide.astype(dtype))
    jax.tree.map(assert_array_equal, updated, updated_wide)
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {np.dtype("float32")}

    (d_params, d_x), (d_params_wide, d_x_wide) = vjp(d_y), vjp_wide(d_y.astype("float32"))
    assert d_x.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(d_params)} == {np.dtype("float32")}
    assert_array_equal(d_x, d_x_wide.astype(dtype))
    jax.tree.map(assert_array_equal, d_params, d_params_wide)


@pytest.mark.usefixtures("float64")
class TestRunningStatistics:
  @pytest.mark.parametrize("shape", [FULLY_CONNECTED, CONVOLUTIONAL])
  @pytest.mark.parametrize("unbiased", [True, False])
  def test_are_moving_averages_of_the_mean_and_the_variance(self, shape, unbiased):
    module = BatchNorm(decay=0.75, unbiased_running_variance=unbiased)
    axes = tuple(range(len(shape) - 1))
    batch_stats = {"mean": np.zeros(shape[-1]), "var": np.ones(shape[-1])}
    mean, var = batch_stats["mean"], batch_stats["var"]
    for step in range(3):
      x = step + random(step, shape)
      variables = {**random_variables(0, shape[-1]), "batch_stats": batch_stats}
      _, batch_stats = train(module, variables, x)
      mean = 0.75 * mean + 0.25 * x.mean(axes)
      var = 0.75 * var + 0.25 * x.var(axes, ddof=1 if unbiased else 0)
    assert_allclose(batch_stats["mean"], mean, rtol=1e-12)
    assert_allclose(batch_stats["var"], var, rtol=1e-12)

  def test_stay_as_they_are_where_they_are_not_mutable(self):
    x = random(0, FULLY_CONNECTED)
    variables = random_variables(1, 5)
    y, updated = BatchNorm().apply(variables, x, train=True, mutable=["batch_moments"])
    assert updated.keys() == {"batch_moments"}
    assert_allclose(y, train(BatchNorm(), variables, x)[0], rtol=1e-12)


@functools.partial(jax.jit, static_argnums=0)
def train_with_gradients(module, variables, x, d_y, mask=None):
  """Returns y, the gradients of the parameters and x, and the collections that training fills."""
  rows = {} if mask is None else row_mask(mask)

  def apply(params, x):
    return module.apply(
      {**variables, **rows, "params": params},
      x,
      train=True,
      mutable=["batch_stats", "batch_moments"],
    )

  y, vjp, updated = jax.vjp(apply, variables["params"], x, has_aux=True)
  return y, *vjp(d_y), updated


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def pooled_with_gradients(module, pools_first, variables, x, d_y, train=True, mask=None):
  """As `train_with_gradients`, of a max pool behind the module, computed before it or after."""
  rows = {} if mask is None else row_mask(mask)

  def max_pool(x):
    return nn.max_pool(x, (3, 3), (2, 2), "SAME")

  def apply(params, x):
    pool = {"max_pool": max_pool} if pools_first else {}
    y, updated = module.apply(
      {**variables, **rows, "params": params},
      x,
      train=train,
      mutable=["batch_stats", "batch_moments"],
      **pool,
    )
    return (y if pools_first else max_pool(y)), updated

  y, vjp, updated = jax.vjp(apply, variables["params"], x, has_aux=True)
  return y, *vjp(d_y), updated


@pytest.mark.usefixtures("float64")
class TestMaxPool:
  """Computed first, it gives what it gives computed last, and so do the gradients."""

  @pytest.mark.parametrize(
    ("settings", "train"),
    [
      ({}, True),
      ({"virtual_batch_size": 4}, True),
      ({"unbiased_running_variance": False}, True),
      ({"frozen": ("**",)}, True),
      ({}, False),
    ],
    ids=["batch", "groups", "biased", "frozen", "inference"],
  )
  @pytest.mark.parametrize("is_masked", [False, True])
  @both_ways
  def test_the_order_changes_nothing(self, settings, train, is_masked, in_one_pass):
    module = BatchNorm(moments_in_one_pass=in_one_pass, **settings)
    variables = random_variables(1, 4)
    variables["params"]["scale"][[0, 2]] *= -1  # by which the least becomes the largest
    x, d_y = 3 + random(0, CONVOLUTIONAL), random(2, (8, 3, 2, 4))
    mask = None
    if is_masked:
      mask = np.array([0, 1, 1, 1, 1, 0, 1, 1], np.float32)
      x[mask == 0] = d_y[mask == 0] = np.nan if train and not module.frozen else 100
    expected, found = (
      pooled_with_gradients(module, pools_first, variables, x, d_y, train, mask)
      for pools_first in (False, True)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10), found, expected)

  def test_in_float32_a_mean_far_from_zero_costs_nothing(self):
    """The sums of the gradient are those of deviations."""
    module = BatchNorm()
    variables = random_variables(1, 4)
    x, d_y = 100 + random(0, CONVOLUTIONAL), random(2, (8, 3, 2, 4))
    x = x.astype("float32").astype("float64")
    expected = pooled_with_gradients(module, False, variables, x, d_y)[:3]
    found = pooled_with_gradients(
      module, True, *jax.tree.map(lambda values: values.astype("float32"), (variables, x, d_y))
    )[:3]
    jax.tree.map(lambda a, b: assert_close(a, b, 2e-5), found, expected)

  def test_has_a_forward_mode_and_second_derivatives(self):
    variables, x = random_variables(1, 4), random(0, CONVOLUTIONAL)
    weights = random(2, (8, 3, 2, 4))

    def loss(x, *, pools_first):
      y, *_ = pooled_with_gradients(BatchNorm(), pools_first, variables, x, weights)
      return jnp.sum(y * weights)

    first, last = (
      functools.partial(loss, pools_first=pools_first) for pools_first in (True, False)
    )
    direction = random(3, CONVOLUTIONAL)
    for of_loss in (lambda f: f, jax.grad):
      found, expected = (jax.jvp(of_loss(f), (x,), (direction,)) for f in (first, last))
      jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-8), found, expected)

  def test_is_not_for_features_of_one_position(self):
    variables, x = random_variables(1, CONVOLUTIONAL[1:]), random(0, CONVOLUTIONAL)
    with pytest.raises(ValueError, match="per activation"):
      BatchNorm(per_activation=True).apply(variables, x, train=False, max_pool=lambda x: x)


@pytest.mark.usefixtures("float64")
class TestMaskedRows:
  """They have no part in anything, whatever they hold."""

  @pytest.mark.parametrize("shape", [FULLY_CONNECTED, CONVOLUTIONAL], ids=["fc", "conv"])
  @pytest.mark.parametrize("per_activation", [False, True])
  @pytest.mark.parametrize("unbiased", [False, True])
  @pytest.mark.parametrize("held", [0, 100.0, np.inf, np.nan])
  @both_ways
  def test_everything_is_as_in_a_batch_without_them(
    self, shape, per_activation, unbiased, held, in_one_pass
  ):
    module = BatchNorm(
      per_activation=per_activation,
      unbiased_running_variance=unbiased,
      moments_in_one_pass=in_one_pass,
    )
    variables = random_variables(1, shape[1:] if per_activation else shape[-1:])
    x, d_y = 3 + random(0, shape), random(2, shape)
    mask = np.ones(shape[0], np.float32)
    masked = [0, 3, 7]
    mask[masked] = 0
    without = [np.delete(rows, masked, 0) for rows in (x, d_y)]
    x[masked] = d_y[masked] = held

    y, d_params, d_x, updated = train_with_gradients(module, variables, x, d_y, mask)
    expected = train_with_gradients(module, variables, *without)
    assert_array_equal(d_x[np.array(masked)], 0)
    assert np.isfinite(y).all()
    y, d_x = (np.delete(rows, masked, 0) for rows in (y, d_x))
    jax.tree.map(
      lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10),
      (y, d_params, d_x, updated),
      expected,
    )

  @pytest.mark.parametrize("shape", [FULLY_CONNECTED, CONVOLUTIONAL], ids=["fc", "conv"])
  @both_ways
  def test_a_mask_that_leaves_nothing_out_changes_nothing(self, shape, in_one_pass):
    variables, x, d_y = random_variables(1, shape[-1]), random(0, shape), random(2, shape)
    module = BatchNorm(virtual_batch_size=4, moments_in_one_pass=in_one_pass)
    actual = train_with_gradients(module, variables, x, d_y, np.ones(shape[0], np.float32))
    expected = train_with_gradients(module, variables, x, d_y)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-14, atol=1e-14), actual, expected)

  @both_ways
  def test_each_group_has_those_rows_that_are_left_to_it(self, in_one_pass):
    """All, two, one and none of four: groups without a variance keep the moving averages."""
    shape = (16, 5)
    variables, x, d_y = random_variables(1, 5), 3 + random(0, shape), random(2, shape)
    mask = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0], np.float32)
    module = BatchNorm(decay=0.75, virtual_batch_size=4, moments_in_one_pass=in_one_pass)
    y, d_params, d_x, updated = train_with_gradients(module, variables, x, d_y, mask)

    alone = module.copy(virtual_batch_size=None)
    whole, two = (
      train_with_gradients(alone, variables, x[rows], d_y[rows]) for rows in ([0, 1, 2, 3], [5, 6])
    )
    for (y_alone, _, d_x_alone, _), rows in ((whole, slice(4)), (two, slice(5, 7))):
      assert_allclose(y[rows], y_alone, rtol=1e-10, atol=1e-10)
      assert_allclose(d_x[rows], d_x_alone, rtol=1e-10, atol=1e-10)
    # x̂ = 0 of a single row, and of none.
    assert_allclose(y[7:], np.broadcast_to(variables["params"]["bias"], (9, 5)), rtol=1e-14)
    assert_array_equal(d_x[7:], 0)
    assert_allclose(d_params["scale"], whole[1]["scale"] + two[1]["scale"], rtol=1e-10)
    assert_allclose(d_params["bias"], (d_y * mask[:, None]).sum(0), rtol=1e-10)
    for name, running in variables["batch_stats"].items():
      for collection, kept in (("batch_stats", running), ("batch_moments", running)):
        of_groups = [whole[3][collection][name], two[3][collection][name], kept, kept]
        assert_allclose(updated[collection][name], np.mean(of_groups, 0), rtol=1e-10)

  @pytest.mark.parametrize("virtual_batch_size", [None, 4])
  @both_ways
  def test_a_batch_without_a_row_that_counts_moves_nothing(self, virtual_batch_size, in_one_pass):
    variables, x = random_variables(1, 5), np.full(FULLY_CONNECTED, np.nan)
    module = BatchNorm(virtual_batch_size=virtual_batch_size, moments_in_one_pass=in_one_pass)
    y, d_params, d_x, updated = train_with_gradients(module, variables, x, x, np.zeros(12))
    assert_array_equal(updated["batch_stats"]["mean"], variables["batch_stats"]["mean"])
    assert_array_equal(updated["batch_stats"]["var"], variables["batch_stats"]["var"])
    assert_allclose(updated["batch_moments"]["mean"], variables["batch_stats"]["mean"], rtol=1e-14)
    assert_allclose(updated["batch_moments"]["var"], variables["batch_stats"]["var"], rtol=1e-14)
    jax.tree.map(lambda gradient: assert_array_equal(gradient, 0 * gradient), (d_params, d_x))
    assert np.isfinite(y).all()

  @both_ways
  def test_in_float32_too(self, in_one_pass):
    variables, x = random_variables(1, 4, "float32"), random(0, CONVOLUTIONAL, "float32")
    mask = np.ones(8, np.float32)
    mask[[1, 2]] = 0
    module = BatchNorm(moments_in_one_pass=in_one_pass)
    actual = train_with_gradients(module, variables, x, x, mask)
    expected = train_with_gradients(
      BatchNorm(), variables, np.delete(x, [1, 2], 0), np.delete(x, [1, 2], 0)
    )
    jax.tree.map(
      lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual[1::2], expected[1::2]
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {np.dtype("float32")}

  def test_all_layers_of_a_model_know_them(self):
    model = TwoLayers()
    x = random(0, (6, 5, 4, 3))
    variables = model.init(jax.random.key(0), x, train=False)
    mask = np.array([1, 1, 0, 1, 0, 1])

    @jax.jit
    def statistics(x, **rows):
      return model.apply({**variables, **rows}, x, train=True, mutable=["batch_stats"])[1]

    jax.tree.map(
      lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-10),
      statistics(x, **row_mask(mask)),
      statistics(x[mask == 1]),
    )

  def test_inference_does_not_ask_for_them(self):
    variables, x = random_variables(1, 5), random(0, FULLY_CONNECTED)
    y = BatchNorm().apply({**variables, **row_mask(np.zeros(12))}, x, train=False)
    assert_array_equal(y, BatchNorm().apply(variables, x, train=False))

  def test_a_mask_of_another_batch_is_refused(self):
    variables, x = random_variables(1, 5), random(0, FULLY_CONNECTED)
    with pytest.raises(ValueError, match=r"A mask of shape \(11,\) is not that of 12 rows"):
      train_with_gradients(BatchNorm(), variables, x, x, np.ones(11))


class TwoLayers(nn.Module):
  """Two 1×1 convolutions, each normalised and rectified."""

  @nn.compact
  def __call__(self, x, *, train):
    for features in (4, 6):
      x = nn.Dense(features, use_bias=False)(x)
      x = nn.relu(BatchNorm()(x, train=train))
    return x


@pytest.mark.usefixtures("float64")
class TestPopulationStatistics:
  """Algorithm 2."""

  def test_are_averages_over_batches_and_give_the_affine_map_of_line_11(self):
    model = TwoLayers()
    batches = [step + random(step, (6, 5, 4, 3)) for step in range(4)]
    initial = model.init(jax.random.key(0), batches[0], train=False)
    params = {
      **initial["params"],
      "BatchNorm_0": random_variables(1, 4)["params"],
      "BatchNorm_1": random_variables(2, 6)["params"],
    }
    variables = {**initial, "params": params}

    @jax.jit
    def batch_moments(batch):
      return model.apply(variables, batch, train=True, mutable=["batch_moments"])[1][
        "batch_moments"
      ]

    batch_stats = recompute_population_statistics(batch_moments, iter(batches))
    assert jax.tree.structure(batch_stats) == jax.tree.structure(variables["batch_stats"])

    inputs, image = batches, batches[0]
    m = 6 * 5 * 4
    for layer in range(2):
      kernel = np.asarray(params[f"Dense_{layer}"]["kernel"])
      scale, bias = (params[f"BatchNorm_{layer}"][name] for name in ("scale", "bias"))
      inputs = [x @ kernel for x in inputs]
      mean = np.mean([x.mean((0, 1, 2)) for x in inputs], axis=0)
      var = m / (m - 1) * np.mean([x.var((0, 1, 2)) for x in inputs], axis=0)
      assert_allclose(batch_stats[f"BatchNorm_{layer}"]["mean"], mean, rtol=1e-10)
      assert_allclose(batch_stats[f"BatchNorm_{layer}"]["var"], var, rtol=1e-10)
      inputs = [np.maximum(reference(x, scale, bias, 1e-3), 0) for x in inputs]
      std = np.sqrt(var + 1e-3)
      image = np.maximum(scale / std * (image @ kernel) + (bias - scale * mean / std), 0)
    inference = model.apply({"params": params, "batch_stats": batch_stats}, batches[0], train=False)
    assert_allclose(inference, image, rtol=1e-10, atol=1e-10)

  def test_take_the_unbiased_variance_whatever_the_moving_average_takes(self):
    x = random(0, FULLY_CONNECTED)
    module = BatchNorm(unbiased_running_variance=False)
    _, updated = module.apply(random_variables(1, 5), x, train=True, mutable=["batch_moments"])
    assert_allclose(updated["batch_moments"]["var"], x.var(0, ddof=1), rtol=1e-12)

  def test_average_over_virtual_batches(self):
    x = random(0, FULLY_CONNECTED)
    module = BatchNorm(virtual_batch_size=4)
    _, updated = module.apply(random_variables(1, 5), x, train=True, mutable=["batch_moments"])
    unbiased = x.reshape(3, 4, 5).var(1, ddof=1).mean(0)
    assert_allclose(updated["batch_moments"]["var"], unbiased, rtol=1e-12)

  def test_need_a_batch(self):
    with pytest.raises(ValueError, match="at least one batch"):
      recompute_population_statistics(lambda batch: batch, [])
