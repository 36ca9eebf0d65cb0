"""The CPUs' convolution against JAX's own, in value and gradient."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose
from same_gradients import assert_same_outputs_and_gradients

from speedpaper_jax.models import cpu_convolution


def random(seed, shape):
  return np.random.default_rng(seed).normal(size=shape)


def of_images(conv):
  """As `nn.Conv` calls it."""
  return functools.partial(conv, dimension_numbers=("NHWC", "HWIO", "NHWC"))


OURS, PLAIN = of_images(cpu_convolution.conv), of_images(lax.conv_general_dilated)


class TestSmallMaps:
  @pytest.mark.parametrize(
    ("kernel", "strides", "groups"),
    [
      ((1, 1, 6, 4), 1, 1),
      ((1, 1, 6, 4), 2, 1),
      ((1, 1, 3, 4), 1, 2),
      ((3, 3, 6, 4), 1, 1),
      ((1, 3, 6, 4), 1, 1),
    ],
  )
  def test_as_matmul_equals_the_plain_form(self, kernel, strides, groups):
    one, other = (
      functools.partial(
        conv, window_strides=(strides,) * 2, padding="SAME", feature_group_count=groups
      )
      for conv in (OURS, PLAIN)
    )
    assert_same_outputs_and_gradients(one, other, random(0, (2, 5, 4, 6)), random(1, kernel))

  @pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 7), (7, 1)])
  def test_on_small_maps_equals_the_plain_form(self, kernel):
    """Maps of 1×1 to 4×4 with both strides and every kind of padding, in one program."""
    settings = list(
      itertools.product([(1, 1), (2, 2), (1, 4), (4, 3)], (1, 2), ("SAME", "VALID", 1))
    )

    def convs(conv, x, weights):
      outputs = []
      for (height, width), strides, padding in settings:
        pads = padding if isinstance(padding, str) else [(padding, padding)] * 2
        y = conv(x[:, :height, :width], weights, (strides, strides), pads)
        outputs.append(y.reshape(y.shape[0], -1))
      return jnp.concatenate(outputs, 1)

    assert_same_outputs_and_gradients(
      functools.partial(convs, OURS),
      functools.partial(convs, PLAIN),
      random(0, (2, 4, 4, 3)),
      random(1, (*kernel, 3, 4)),
    )

  @pytest.mark.parametrize(
    ("height", "width", "kernel", "strides", "is_matmul"),
    [
      (5, 4, (1, 1), 1, True),
      (35, 35, (1, 1), 1, True),
      (1, 1, (3, 3), 1, True),
      (2, 2, (3, 3), 1, True),
      (4, 4, (3, 3), 2, True),
      (4, 4, (5, 5), 1, True),
      (3, 3, (3, 3), 1, False),
      (5, 5, (3, 3), 2, False),
      (8, 8, (1, 1), 2, False),
      (6, 6, (1, 7), 1, True),
      (17, 17, (1, 7), 1, False),
    ],
  )
  def test_pointwise_ones_and_small_maps_become_matrix_products(
    self, height, width, kernel, strides, is_matmul
  ):
    conv = functools.partial(OURS, window_strides=(strides,) * 2, padding="SAME")
    program = str(jax.make_jaxpr(conv)(np.zeros((2, height, width, 6)), np.zeros((*kernel, 6, 4))))
    assert ("dot_general" in program) == is_matmul
    assert ("conv_general_dilated" in program) != is_matmul

  @pytest.mark.parametrize(
    ("height", "width", "taps"), [(1, 1, 1), (1, 4, 5), (2, 2, 9), (3, 3, 25)]
  )
  def test_taps_that_see_padding_alone_are_not_computed(self, height, width, taps):
    conv = functools.partial(OURS, window_strides=(1, 1), padding="SAME")
    inputs = np.zeros((2, height, width, 6)), np.zeros((5, 5, 6, 4))
    flops = jax.jit(conv).lower(*inputs).cost_analysis()["flops"]
    assert flops == pytest.approx(2 * height * width * (2 * taps * 6 * 4), rel=0.02)


LARGE = (3, 40, 36, 70)
MANY = (3, 64, 50, 16)


class TestLargeMaps:
  """They have more than 100,000 values."""

  def test_are_told_by_the_values_of_an_image(self):
    assert cpu_convolution.is_large(LARGE)
    assert not cpu_convolution.is_large((64, 36, 36, 70))

  @pytest.mark.parametrize("strides", [1, 2])
  def test_equal_the_plain_form(self, strides):
    one, other = (
      functools.partial(conv, window_strides=(strides,) * 2, padding="SAME")
      for conv in (OURS, PLAIN)
    )
    kernel = random(1, (1, 1, 70, 4)) / 9
    assert_same_outputs_and_gradients(one, other, random(0, LARGE), kernel)

  def test_a_product_has_no_transposed_copy(self):
    def loss(x, kernel):
      return jnp.sum(OURS(x, kernel, (1, 1), "SAME") ** 2)

    step = jax.jit(jax.grad(loss, (0, 1)))
    program = step.lower(np.zeros(LARGE), np.zeros((1, 1, 70, 5))).compile().as_text()
    size = np.prod(LARGE)
    written = re.findall(r"f32\[([\d,]+)\]\S* (?:transpose|copy)\(", program)
    assert not [shape for shape in written if np.prod([*map(int, shape.split(","))]) == size]


class TestManyMultiplications:
  """More than 35 million multiply-adds an image."""

  @pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
      ((3, 3), 1, "SAME"),
      ((3, 3), 1, "VALID"),
      ((3, 2), 2, "VALID"),
      ((2, 3), (2, 1), "VALID"),
      ((1, 7), 1, [(1, 1), (0, 2)]),
      ((7, 1), (1, 2), [(0, 1), (0, 0)]),
    ],
  )
  def test_equal_the_plain_form(self, kernel, strides, padding):
    strides = (strides, strides) if isinstance(strides, int) else strides
    one, other = (
      functools.partial(conv, window_strides=strides, padding=padding) for conv in (OURS, PLAIN)
    )
    x, weights = random(0, MANY), random(1, (*kernel, 16, 120 * strides[0] * strides[1])) / 9
    assert is_by_images(one, x, weights)
    assert_same_outputs_and_gradients(one, other, x, weights)

  def test_are_told_by_the_multiply_adds_of_an_image(self):
    conv = functools.partial(OURS, window_strides=(1, 1), padding="SAME")
    assert not is_by_images(conv, np.zeros((64, 28, 28, 96)), np.zeros((3, 3, 96, 32)))
    assert is_by_images(conv, np.zeros((1, 28, 28, 96)), np.zeros((3, 3, 96, 64)))

  def test_have_tangents_and_second_derivatives(self):
    x, kernel = random(0, MANY), random(1, (3, 3, 16, 90)) / 9
    d_x, d_kernel = random(2, x.shape), random(3, kernel.shape)

    def loss(conv, x, kernel):
      return jnp.mean(conv(x, kernel, (1, 1), "VALID") ** 3)

    with jax.enable_x64(True):
      for of_loss in (lambda f: f, lambda f: jax.grad(f, (0, 1))):
        found, expected = (
          jax.jit(functools.partial(jax.jvp, of_loss(functools.partial(loss, conv))))(
            (x, kernel), (d_x, d_kernel)
          )
          for conv in (OURS, PLAIN)
        )
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, expected)

  @pytest.mark.parametrize("preferred", [None, jnp.float32])
  def test_a_kernels_gradient_in_bfloat16_is_added_up_in_float32(self, preferred):
    """And rounded once, to half of bfloat16's last bit."""
    x, kernel = np.abs(random(0, MANY)), random(1, (3, 3, 16, 90))
    d_y = np.abs(random(2, (*MANY[:3], 90)))
    x, kernel, d_y = (jnp.asarray(each, jnp.bfloat16) for each in (x, kernel, d_y))

    def gradient(conv, dtype):
      conv = functools.partial(conv, window_strides=(1, 1), padding="SAME")
      of_kernel = functools.partial(conv, x.astype(dtype), preferred_element_type=preferred)
      y, pull_back = jax.vjp(of_kernel, kernel.astype(dtype))
      return pull_back(d_y.astype(y.dtype))[0]

    found = jax.jit(gradient, static_argnums=(0, 1))(OURS, jnp.bfloat16)
    expected = jax.jit(gradient, static_argnums=(0, 1))(PLAIN, jnp.float32)
    assert found.dtype == jnp.bfloat16
    assert_allclose(found.astype(jnp.float32), expected, rtol=1.01 * 2**-8)

  def test_a_kernels_gradient_is_added_up_image_by_image(self):
    """And an input that asks for no gradient has none computed."""

    def loss(kernel):
      return jnp.sum(OURS(np.zeros(MANY), kernel, (1, 1), "SAME") ** 2)

    program = jax.make_jaxpr(jax.grad(loss))(np.zeros((3, 3, 16, 90)))
    (loop,) = [each for each in program.jaxpr.eqns if each.primitive.name == "scan"]
    assert loop.params["length"] == MANY[0]
    assert str(loop).count("dot_general[") == 3  # one for each row of the kernel
    assert str(program).count("conv_general_dilated[") == 1

  def test_what_a_kernel_sees_of_an_image_is_not_kept_for_the_gradient(self):
    """It has three times the values of all images."""

    def loss(x, kernel):
      return jnp.sum(OURS(x, kernel, (1, 1), "SAME") ** 2)

    step = jax.jit(jax.grad(loss, 1))
    program = step.lower(np.zeros(MANY), np.zeros((3, 3, 16, 90))).compile()
    kept = re.findall(r"f32\[([\d,]+)\]", program.as_text())
    values = [np.prod([*map(int, shape.split(","))]) for shape in kept]
    assert max(values) == MANY[0] * MANY[1] * MANY[2] * 90  # the output

  def test_without_padding_have_one_more_row_of_zeros(self):
    """The back end takes three times as long without any."""

    def padding(pads):
      conv = functools.partial(OURS, window_strides=(1, 1), padding=pads)
      program = str(jax.make_jaxpr(conv)(np.zeros(MANY), np.zeros((3, 3, 16, 90))))
      return re.findall(r"padding=(.+)", program)

    assert padding("VALID") == ["((0, 1), (0, 0))"]
    assert padding("SAME") == ["((1, 1), (1, 1))"]


def is_by_images(conv, x, kernel):
  """Whether a kernel's gradient is."""
  program = jax.make_jaxpr(jax.grad(lambda kernel: jnp.sum(conv(x, kernel))))(kernel)
  return any(each.primitive.name == "scan" for each in program.jaxpr.eqns)
