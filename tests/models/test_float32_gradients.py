"""Parameters' gradients in float32 from arithmetic in bfloat16, against float64's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from speedpaper_jax import models
from speedpaper_jax.models import ops
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.float32_gradients import with_float32_gradients
from speedpaper_jax.models.layers import LayerSettings

FORMS = {"plain": ops.PLAIN, "cpu": ops.CPU, "accelerator": ops.ACCELERATOR}
# Each kernel with the strides and padding that some network has it with, and a pad in numbers.
CONVOLUTIONS = [
  ((1, 1), 1, "SAME"),
  ((1, 1), 1, "VALID"),
  ((1, 1), 2, "SAME"),
  ((3, 3), 1, "SAME"),
  ((3, 3), 1, "VALID"),
  ((3, 3), 2, "SAME"),
  ((3, 3), 2, "VALID"),
  ((3, 3), 2, 1),
  ((5, 5), 1, "SAME"),
  ((5, 5), 1, "VALID"),
  ((7, 7), 2, "SAME"),
  ((7, 7), 2, 3),
  ((1, 7), 1, "SAME"),
  ((7, 1), 1, "SAME"),
  ((1, 3), 1, "SAME"),
  ((3, 1), 1, "SAME"),
]


def random(seed, shape):
  return np.random.default_rng(seed).normal(size=shape)


def convolution(form, strides, padding):
  """As `nn.Conv` calls it."""
  return lambda x, kernel: form.conv(
    x,
    kernel,
    (strides, strides),
    padding if isinstance(padding, str) else [(padding, padding)] * 2,
    lhs_dilation=(1, 1),
    rhs_dilation=(1, 1),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=1,
    precision=None,
  )


def products(form):
  """Name → a product of the form, its input and its kernels."""
  found = {
    f"{height}×{width} {strides} {padding}": (
      convolution(form, strides, padding),
      (2, 9, 8, 3),
      ((height, width, 3, 4),),
    )
    for (height, width), strides, padding in CONVOLUTIONS
  }
  separable = functools.partial(form.separable_conv, strides=2, padding="SAME")
  found["separable"] = (separable, (2, 9, 8, 3), ((7, 7, 1, 24), (1, 1, 24, 4)))
  # As `nn.Dense` and, over all of a map, `nn.DenseGeneral` call it.
  for name, axes in {"dense": (1,), "dense_general": (1, 2, 3)}.items():
    sizes = (9, 8, 3)[: len(axes)]
    dimensions = ((axes, tuple(range(len(axes)))), ((), ()))
    dense = functools.partial(form.dot_general, dimension_numbers=dimensions, precision=None)
    found[name] = (dense, (6, *sizes), ((*sizes, 4),))
  return found


def inputs_of(form, dtype):
  """Name → an input, a kernel or two, and a gradient of the outputs, of values of bfloat16's."""
  found = {}
  for name, (product, *shapes) in products(form).items():
    shapes = [shapes[0], *shapes[1]]
    outputs = jax.eval_shape(product, *(jax.ShapeDtypeStruct(each, dtype) for each in shapes))
    arrays = [random(seed, shape) for seed, shape in enumerate([*shapes, outputs.shape])]
    found[name] = [array.astype(jnp.bfloat16).astype(dtype) for array in arrays]
  return found


@functools.partial(jax.jit, static_argnums=0)
def outputs_and_gradients(form, inputs):
  """Name → what a product gives, and the gradients of its input and its kernels."""
  found = {}
  for name, (product, *_) in products(form).items():
    *factors, d_y = inputs[name]
    y, vjp = jax.vjp(product, *factors)
    found[name] = [y, *vjp(d_y)]
  return found


def largest_error(actual, expected):
  expected = np.asarray(expected)
  return np.max(np.abs(np.float64(np.asarray(actual)) - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("form", FORMS)
class TestProducts:
  @pytest.mark.usefixtures("float64")
  def test_in_float64_nothing_is_rounded(self, form):
    inputs = inputs_of(FORMS[form], np.float64)
    expected = outputs_and_gradients(FORMS[form], inputs)
    found = outputs_and_gradients(with_float32_gradients(FORMS[form]), inputs)
    assert len(found) == len(CONVOLUTIONS) + 3
    for name, arrays in found.items():
      for array, expectation in zip(arrays, expected[name], strict=True):
        np.testing.assert_allclose(array, expectation, rtol=1e-12, atol=1e-12, err_msg=name)

  def test_in_bfloat16_kernels_have_gradients_of_float32(self, form):
    with jax.enable_x64():
      exact = outputs_and_gradients(FORMS[form], inputs_of(FORMS[form], np.float64))
    narrow = inputs_of(FORMS[form], jnp.bfloat16)
    wide_kernels = {
      name: [x, *(kernel.astype(np.float32) for kernel in kernels), d_y]
      for name, (x, *kernels, d_y) in narrow.items()
    }
    plain = outputs_and_gradients(FORMS[form], narrow)
    found = outputs_and_gradients(with_float32_gradients(FORMS[form]), wide_kernels)
    for name, (y, d_x, *gradients) in found.items():
      # What goes on to the next layer and to the one before is what it was.
      np.testing.assert_array_equal(y, plain[name][0], err_msg=name)
      np.testing.assert_array_equal(d_x, plain[name][1], err_msg=name)
      assert y.dtype == d_x.dtype == jnp.bfloat16
      pairs = zip(gradients, plain[name][2:], exact[name][2:], strict=True)
      for gradient, in_bfloat16, expected in pairs:
        assert (gradient.dtype, in_bfloat16.dtype) == (jnp.float32, jnp.bfloat16)
        assert largest_error(gradient, expected) < 1e-5, name
        assert largest_error(in_bfloat16, expected) > 2e-4, name


class TestNetworks:
  """With separable, sibling and residual convolutions, biases and auxiliary heads."""

  @staticmethod
  def loss(name, operations, dtype, **fields):
    """A network's variables, and a loss of its parameters in training."""
    network = models.create(
      name,
      num_classes=5,
      settings=LayerSettings(
        None if name == "googlenet" else BatchNorm(),
        dtype=dtype,
        operations=operations,
        width=1 / 16,
      ),
      **fields,
    )
    size = 75 if name == "inception_resnet_v2" else 32
    images = jnp.asarray(random(0, (4, size, size, 3)), dtype)
    variables = jax.eval_shape(functools.partial(network.init, train=False), _keys(), images)
    draw = functools.partial(jnp.asarray, dtype=jnp.promote_types(dtype, jnp.float32))
    params = jax.tree.map(
      lambda leaf: draw(random(1, leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1], initial=1))),
      variables["params"],
    )
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), variables.get("batch_stats", {}))

    def loss(params):
      logits, left = network.apply(
        {"params": params, "batch_stats": stats},
        images,
        train=True,
        mutable=["batch_stats", "aux_logits", "features"],
        rngs=_keys(),
      )
      total = sum(jnp.sum(jnp.square(each)) for each in jax.tree.leaves(left.get("aux_logits", {})))
      return total + jnp.sum(jnp.square(logits)), (logits, left.get("features", {}))

    return loss, params

  @pytest.mark.slow
  @pytest.mark.usefixtures("float64")
  @pytest.mark.parametrize(
    ("name", "fields"),
    [("bn_inception", {}), ("googlenet", {"use_aux_heads": True})],
  )
  def test_gradients_in_float64_are_those_of_the_other_form(self, name, fields):
    found, expected = (
      jax.jit(jax.grad(loss, has_aux=True))(params)[0]
      for loss, params in (
        self.loss(name, operations, jnp.float64, **fields)
        for operations in (with_float32_gradients(ops.ACCELERATOR), ops.ACCELERATOR)
      )
    )
    scale = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(expected))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a / scale, b / scale, rtol=1e-8, atol=1e-12),
      found,
      expected,
    )

  @pytest.mark.parametrize(
    ("name", "fields"),
    [("bn_inception", {}), ("googlenet", {"use_aux_heads": True}), ("inception_resnet_v2", {})],
  )
  def test_activations_stay_in_bfloat16(self, name, fields):
    loss, params = self.loss(name, with_float32_gradients(ops.ACCELERATOR), jnp.bfloat16, **fields)
    gradients, (logits, features) = jax.eval_shape(jax.grad(loss, has_aux=True), params)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(features)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(jnp.float32)}


def _keys():
  return {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def test_equal_forms_have_equal_forms():
  """So that networks that were equal are."""
  assert with_float32_gradients(ops.CPU) is with_float32_gradients(ops.CPU)
  assert with_float32_gradients(ops.CPU).max_pool is ops.CPU.max_pool


def test_may_be_mapped():
  """As a loss of each image alone is."""
  form = with_float32_gradients(ops.PLAIN)
  x, kernel = random(0, (3, 2, 5, 5, 4)), random(1, (3, 3, 4, 6))
  conv = convolution(form, 1, "SAME")
  np.testing.assert_allclose(
    jax.vmap(conv, (0, None))(x, kernel)[1], conv(x[1], kernel), rtol=1e-5, atol=1e-5
  )
  assert lax.dot_general is ops.PLAIN.dot_general
