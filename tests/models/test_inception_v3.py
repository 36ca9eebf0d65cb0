"""Inception-v3 against Table 1 and Figures 5 to 10 of its paper."""

import pytest
from networks import linear, trace, weights

# Table 1, row by row. Where it has a 3×3 convolution with stride 2, the authors' code has a pool.
OUTPUTS_AT_299 = {
  "conv_1a_3x3": (149, 149, 32),
  "conv_2a_3x3": (147, 147, 32),
  "conv_2b_3x3": (147, 147, 64),
  "pool_3a": (73, 73, 64),
  "conv_3b_1x1": (73, 73, 80),
  "conv_4a_3x3": (71, 71, 192),
  "pool_5a": (35, 35, 192),
  "mixed_5b": (35, 35, 256),
  "mixed_5c": (35, 35, 288),
  "mixed_5d": (35, 35, 288),
  "mixed_6a": (17, 17, 768),
  "mixed_6b": (17, 17, 768),
  "mixed_6c": (17, 17, 768),
  "mixed_6d": (17, 17, 768),
  "mixed_6e": (17, 17, 768),
  "mixed_7a": (8, 8, 1280),
  "mixed_7b": (8, 8, 2048),
  "mixed_7c": (8, 8, 2048),
}


@pytest.mark.parametrize("dialect", ["slim", "timm", "torchvision"])
def test_output_sizes(dialect):
  assert trace("inception_v3", dialect).stages() == OUTPUTS_AT_299


def test_parameters_by_the_figures():
  total = weights(3, (32, 3, 3), (32, 3, 3), (64, 3, 3)) + weights(64, (80, 1, 1), (192, 3, 3))
  for inputs, pool_proj in ((192, 32), (256, 64), (288, 64)):  # Figure 5
    total += weights(inputs, (64, 1, 1)) + weights(inputs, (48, 1, 1), (64, 5, 5))
    total += weights(inputs, (64, 1, 1), (96, 3, 3), (96, 3, 3))
    total += weights(inputs, (pool_proj, 1, 1))
  total += weights(288, (384, 3, 3)) + weights(288, (64, 1, 1), (96, 3, 3), (96, 3, 3))
  for width in (128, 160, 160, 192):  # Figure 6
    total += weights(768, (192, 1, 1)) * 2
    total += weights(768, (width, 1, 1), (width, 1, 7), (192, 7, 1))
    long = ((width, 1, 1), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7))
    total += weights(768, *long)
  total += weights(768, (192, 1, 1), (320, 3, 3))
  total += weights(768, (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3))
  for inputs in (1280, 2048):  # Figure 7
    total += weights(inputs, (320, 1, 1)) + weights(inputs, (192, 1, 1))
    total += weights(inputs, (384, 1, 1)) + 2 * weights(384, (384, 1, 3))
    total += weights(inputs, (448, 1, 1), (384, 3, 3)) + 2 * weights(384, (384, 1, 3))
  total += linear(2048, 1000)
  assert trace("inception_v3", "timm", use_aux_heads=False).parameters() == total


def test_parameters_of_the_auxiliary_head():
  """Figure 8: 5×5×768 → 1×1 128 → fully connected, here 768 wide → 1000."""
  head = weights(768, (128, 1, 1), (768, 5, 5)) + linear(768, 1000)
  without = trace("inception_v3", "timm", use_aux_heads=False).parameters()
  assert trace("inception_v3", "timm").parameters() == without + head


def test_the_authors_batch_normalization_learns_no_scale():
  params = trace("inception_v3", "slim").variables["params"]
  assert params["conv_1a_3x3"]["batch_norm"].keys() == {"bias"}
  assert params["aux"]["reduce"]["batch_norm"].keys() == {"bias"}


def test_the_order_of_1x7_and_7x1():
  kernels = trace("inception_v3").kernels("mixed_6b")
  assert [kernels[f"conv_7x7_{i}"][:2] for i in (1, 2, 3)] == [(1, 1), (1, 7), (7, 1)]
  long = [kernels[f"double_7x7_{i}"][:2] for i in (1, 2, 3, 4, 5)]
  assert long == [(1, 1), (7, 1), (1, 7), (7, 1), (1, 7)]
