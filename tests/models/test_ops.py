"""The plain form of each operation against the one for CPUs, a hand computation, or PyTorch."""

import jax
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose, assert_array_equal
from same_gradients import assert_same_outputs_and_gradients

from speedpaper_jax.models import ops


def random(seed, shape):
  return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch is the reference")


def to_torch(torch, x):
  """[N, H, W, C] → [N, C, H, W]."""
  return torch.from_numpy(x).permute(0, 3, 1, 2)


def from_torch(x):
  return x.permute(0, 2, 3, 1).numpy()


class TestConvolution:
  @pytest.mark.parametrize(("strides", "padding"), [(1, "SAME"), (2, "SAME"), (2, "VALID"), (2, 1)])
  @pytest.mark.parametrize("multiplier", [1, 8])
  def test_separable_as_dense_equals_the_plain_form(self, strides, padding, multiplier):
    filters = 3 * multiplier
    assert_same_outputs_and_gradients(
      lambda *inputs: ops.PLAIN.separable_conv(*inputs, strides, padding),
      lambda *inputs: ops.CPU.separable_conv(*inputs, strides, padding),
      random(0, (2, 7, 6, 3)),
      random(1, (3, 3, 1, filters)),
      random(2, (1, 1, filters, 5)),
    )


POOLS = pytest.mark.parametrize(
  ("height", "width", "window", "strides", "padding"),
  [
    (7, 6, 3, 1, "SAME"),
    (7, 6, 3, 2, "SAME"),
    (8, 5, 3, 2, "VALID"),
    (8, 5, 3, 1, "VALID"),
    (6, 7, 2, 2, "SAME"),
    (2, 1, 3, 2, "SAME"),
    (5, 5, 5, 3, "VALID"),
    (8, 7, 3, 2, "CEIL"),
    (7, 6, 3, 2, 1),
    (2, 5, 3, 2, "VALID"),
  ],
)


class TestPooling:
  @POOLS
  def test_maximum_by_slices_equals_the_plain_form(self, height, width, window, strides, padding):
    shape = (2, height, width, 3)
    distinct = np.random.default_rng(0).permutation(np.arange(-100, np.prod(shape) - 100.0))
    assert_same_outputs_and_gradients(
      lambda x: ops.max_pool(x, window, strides, padding),
      lambda x: ops.max_pool_by_slices(x, window, strides, padding),
      distinct.reshape(shape),
    )

  @POOLS
  @pytest.mark.parametrize("count_padding", [False, True])
  def test_mean_by_slices_equals_the_plain_form(
    self, height, width, window, strides, padding, count_padding
  ):
    assert_same_outputs_and_gradients(
      lambda x: ops.avg_pool(x, window, strides, padding, count_padding),
      lambda x: ops.avg_pool_by_slices(x, window, strides, padding, count_padding),
      random(0, (2, height, width, 3)),
    )

  @pytest.mark.parametrize("form", [ops.PLAIN, ops.CPU], ids=["plain", "cpu"])
  def test_mean_leaves_the_padding_out_of_the_count(self, form):
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], "float32").reshape(1, 3, 3, 1)
    expected = [[3, 3.5, 4], [4.5, 5, 5.5], [6, 6.5, 7]]
    assert_allclose(form.avg_pool(x, 3, 1, "SAME")[0, :, :, 0], expected, rtol=1e-6)

  @pytest.mark.parametrize("form", [ops.PLAIN, ops.CPU], ids=["plain", "cpu"])
  def test_maximum_of_negative_values_is_not_the_padding(self, form):
    x = np.full((1, 3, 3, 1), -5, "float32")
    assert_array_equal(form.max_pool(x, 3, 2, "SAME"), np.full((1, 2, 2, 1), -5))

  def test_among_equal_values_the_forms_divide_the_same_gradient(self):
    """The plain form gives a tie's gradient to the first value, the other one shares it."""
    x = np.ones((1, 4, 4, 1), "float32")
    gradients = [
      jax.grad(lambda x, form=form: form.max_pool(x, 2, 2, "VALID").sum())(x)
      for form in (ops.PLAIN, ops.CPU)
    ]
    windows = [np.reshape(gradient, (2, 2, 2, 2)).swapaxes(1, 2) for gradient in gradients]
    assert_array_equal(windows[0].sum((2, 3)), np.ones((2, 2)))
    assert_array_equal(windows[1].sum((2, 3)), np.ones((2, 2)))
    assert_array_equal(windows[0][..., 0, 0], np.ones((2, 2)))
    assert_array_equal(windows[1], np.full((2, 2, 2, 2), 0.25))


class TestPoolingOfTorch:
  """Padding "CEIL" and in pixels, and whether it counts; odd and even maps."""

  FORMS = pytest.mark.parametrize("form", [ops.PLAIN, ops.CPU], ids=["plain", "cpu"])
  SIZES = pytest.mark.parametrize(("height", "width"), [(7, 6), (8, 5), (14, 13)])

  @FORMS
  @SIZES
  @pytest.mark.parametrize(("window", "strides"), [(3, 2), (2, 2), (3, 3)])
  def test_maximum_in_ceil_mode(self, torch, form, height, width, window, strides):
    x = random(0, (2, height, width, 3)).astype("float32") - 5  # padding would win if it were zero
    expected = torch.nn.functional.max_pool2d(to_torch(torch, x), window, strides, ceil_mode=True)
    assert_array_equal(form.max_pool(x, window, strides, "CEIL"), from_torch(expected))

  @FORMS
  @SIZES
  @pytest.mark.parametrize(("window", "strides"), [(3, 1), (3, 2)])
  def test_maximum_with_padding_in_pixels(self, torch, form, height, width, window, strides):
    x = random(0, (2, height, width, 3)).astype("float32") - 5
    expected = torch.nn.functional.max_pool2d(to_torch(torch, x), window, strides, padding=1)
    assert_array_equal(form.max_pool(x, window, strides, 1), from_torch(expected))

  @FORMS
  @SIZES
  @pytest.mark.parametrize("count_padding", [False, True])
  @pytest.mark.parametrize("strides", [1, 2])
  def test_mean_with_padding_in_pixels(self, torch, form, height, width, count_padding, strides):
    x = random(0, (2, height, width, 3)).astype("float32") + 5
    expected = torch.nn.functional.avg_pool2d(
      to_torch(torch, x), 3, strides, padding=1, count_include_pad=count_padding
    )
    assert_allclose(form.avg_pool(x, 3, strides, 1, count_padding), from_torch(expected), rtol=1e-6)

  @SIZES
  def test_adaptive_mean(self, torch, height, width):
    x = random(0, (2, height, width, 3)).astype("float32")
    expected = torch.nn.functional.adaptive_avg_pool2d(to_torch(torch, x), 4)
    assert_allclose(ops.adaptive_avg_pool(x, 4), from_torch(expected), rtol=1e-5, atol=1e-6)

  def test_adaptive_mean_of_a_map_smaller_than_its_result(self, torch):
    x = random(0, (2, 2, 1, 3)).astype("float32")
    expected = torch.nn.functional.adaptive_avg_pool2d(to_torch(torch, x), 4)
    assert_allclose(ops.adaptive_avg_pool(x, 4), from_torch(expected), rtol=1e-5, atol=1e-6)


class TestLocalResponseNorm:
  @pytest.mark.parametrize("channels", [1, 3, 5, 8])
  @pytest.mark.parametrize(("size", "alpha"), [(5, 1e-4), (5, 1.0), (3, 1.0), (4, 1.0)])
  def test_equals_torch(self, torch, channels, size, alpha):
    x = (10 * random(0, (2, 3, 4, channels))).astype("float32")
    layer = torch.nn.LocalResponseNorm(size, alpha=alpha, beta=0.75, k=1.0)
    expected = layer(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert_allclose(ops.local_response_norm(x, size, alpha), expected, rtol=1e-5)

  def test_constants_are_those_of_googlenet(self):
    x = random(0, (1, 2, 2, 7)).astype("float32") * 50
    expected = ops.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)
    assert_array_equal(ops.local_response_norm(x), expected)
    assert np.max(np.abs(x / expected)) > 1.01  # so large that the constants show


@pytest.mark.parametrize(
  ("platform", "expected", "deterministic"),
  [
    ("cpu", ops.CPU, ops.CPU),
    ("gpu", ops.ACCELERATOR, ops.DETERMINISTIC_GPU),
    ("tpu", ops.TPU, ops.TPU),
  ],
)
def test_the_platform_decides_on_the_form(platform, expected, deterministic):
  assert ops.for_platform(platform) is expected
  assert ops.for_platform(platform, deterministic=True) is deterministic


@pytest.mark.parametrize(
  ("form", "of_large", "of_small"),
  [(ops.PLAIN, False, False), (ops.CPU, True, False), (ops.ACCELERATOR, True, True)],
)
def test_layers_are_reordered(form, of_large, of_small):
  """On CPUs where maps are large; elsewhere the order of sums would change for nothing."""
  assert form.reorders((8, 56, 56, 64)) == of_large
  assert form.reorders((8, 16, 16, 64)) == of_small


def test_the_plain_convolution_is_jax_own():
  assert ops.PLAIN.conv is lax.conv_general_dilated
