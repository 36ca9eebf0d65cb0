"""Operations of small modules, as a trace has them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from speedpaper_jax import models
from speedpaper_jax.descriptions import operations, stages
from speedpaper_jax.models import ops
from speedpaper_jax.models.layers import ConvBlock, LayerSettings


class Network(nn.Module):
  """Calls a function within the module."""

  function: object

  @nn.compact
  def __call__(self, x):
    return self.function(x)


def found(function, rows=1, channels=6):
  network = Network(function)
  images = jax.ShapeDtypeStruct((rows, 9, 9, channels), jnp.float32)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), images)
  return operations.find(jax.make_jaxpr(network.apply)(variables, images))


def block(filters, kernel_size, **options):
  return ConvBlock(filters, kernel_size, LayerSettings(), name="block", **options)


def test_convolution():
  (conv,) = found(lambda x: block(4, (3, 1), strides=2)(x, train=False))
  assert conv == operations.Operation(
    kind="conv",
    path=("block", "conv"),
    window=(3, 1),
    strides=2,
    channels=6,
    output=(1, 5, 5, 4),
    multiply_adds=5 * 5 * 4 * 3 * 1 * 6,
  )
  assert conv.activations == 5 * 5 * 4


def test_windows_over_the_padding_count_as_others():
  (valid,) = found(lambda x: block(4, (3, 3), padding="VALID")(x, train=False))
  (same,) = found(lambda x: block(4, (3, 3))(x, train=False))
  assert (valid.multiply_adds, same.multiply_adds) == (7 * 7 * 4 * 54, 9 * 9 * 4 * 54)


def test_a_separable_convolution_is_two():
  depthwise, pointwise = found(lambda x: block(4, (3, 3), depth_multiplier=2)(x, train=False))
  assert (depthwise.kind, depthwise.window, depthwise.channels) == ("depthwise", (3, 3), 6)
  assert depthwise.multiply_adds == 9 * 9 * 12 * 9
  assert (pointwise.kind, pointwise.window, pointwise.channels) == ("conv", (1, 1), 12)
  assert pointwise.multiply_adds == 9 * 9 * 4 * 12


def test_dense_layer():
  (dense,) = found(lambda x: nn.Dense(5, name="logits")(x.mean((1, 2))))
  assert (dense.kind, dense.path, dense.channels) == ("dense", ("logits",), 6)
  assert (dense.multiply_adds, dense.activations) == (30, 5)


@pytest.mark.parametrize(
  ("kind", "pool"),
  [
    ("max", lambda x: ops.max_pool(x, 3, 2, "VALID")),
    ("avg", lambda x: ops.avg_pool(x, 3, 2, "VALID", count_padding=True)),
    ("avg", lambda x: ops.avg_pool(x, 3, 2, "VALID", count_padding=False)),
  ],
)
def test_pool(kind, pool):
  (only,) = found(pool)
  assert (only.kind, only.path, only.window, only.strides) == (kind, (), (3, 3), 2)
  assert (only.output, only.channels) == ((1, 4, 4, 6), 6)
  assert (only.multiply_adds, only.activations) == (0, 0)


def test_functions_that_a_network_calls_are_searched_too():
  def compiled(x):
    return jax.jit(lambda x: x @ jnp.ones((6, 2)))(x)

  (product,) = found(compiled)
  assert product.multiply_adds == 9 * 9 * 6 * 2


def test_numbers_are_for_the_whole_batch():
  one, many = (found(lambda x: block(4, (3, 3))(x, train=False), rows)[0] for rows in (1, 7))
  assert many.multiply_adds == 7 * one.multiply_adds
  assert many.activations == 7 * one.activations


@pytest.mark.parametrize("form", [ops.CPU, ops.TPU], ids=["cpu", "tpu"])
@pytest.mark.parametrize(("name", "image_size"), [("bn_inception", 64), ("inception_v4", 75)])
def test_training_needs_the_same_in_every_form(name, image_size, form):
  """Small maps are products on CPUs, and a separable convolution is a dense one on all devices."""
  settings = LayerSettings(operations=form, axis_name="batch")
  network = models.create(name, settings=settings)
  described = stages.describe(name, image_size=image_size)
  assert operations.training_flops(network, image_size) == 6 * described.multiply_adds
