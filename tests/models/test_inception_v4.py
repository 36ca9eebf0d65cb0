"""Inception-v4 against Figures 3 to 9 of its paper."""

import pytest
from networks import linear, trace, weights

OUTPUTS_AT_299 = {
  "conv_1a_3x3": (149, 149, 32),
  "conv_2a_3x3": (147, 147, 32),
  "conv_2b_3x3": (147, 147, 64),
  "mixed_3a": (73, 73, 160),
  "mixed_4a": (71, 71, 192),
  "mixed_5a": (35, 35, 384),
  **{f"inception_a_{i}": (35, 35, 384) for i in range(1, 5)},
  "reduction_a": (17, 17, 1024),
  **{f"inception_b_{i}": (17, 17, 1024) for i in range(1, 8)},
  "reduction_b": (8, 8, 1536),
  **{f"inception_c_{i}": (8, 8, 1536) for i in range(1, 4)},
}


@pytest.mark.parametrize("dialect", ["paper", "timm"])
def test_output_sizes(dialect):
  assert trace("inception_v4", dialect).stages() == OUTPUTS_AT_299


def test_parameters_by_the_figures():
  stem = weights(3, (32, 3, 3), (32, 3, 3), (64, 3, 3), (96, 3, 3))
  stem += weights(160, (64, 1, 1), (96, 3, 3))
  stem += weights(160, (64, 1, 1), (64, 7, 1), (64, 1, 7), (96, 3, 3)) + weights(192, (192, 3, 3))
  block_a = 2 * weights(384, (96, 1, 1)) + weights(384, (64, 1, 1), (96, 3, 3))
  block_a += weights(384, (64, 1, 1), (96, 3, 3), (96, 3, 3))
  reduction_a = weights(384, (384, 3, 3)) + weights(384, (192, 1, 1), (224, 3, 3), (256, 3, 3))
  block_b = weights(1024, (128, 1, 1)) + weights(1024, (384, 1, 1))
  block_b += weights(1024, (192, 1, 1), (224, 1, 7), (256, 7, 1))
  block_b += weights(1024, (192, 1, 1), (192, 1, 7), (224, 7, 1), (224, 1, 7), (256, 7, 1))
  reduction_b = weights(1024, (192, 1, 1), (192, 3, 3))
  reduction_b += weights(1024, (256, 1, 1), (256, 1, 7), (320, 7, 1), (320, 3, 3))
  fork = 2 * weights(384, (256, 1, 3))
  block_c = 2 * weights(1536, (256, 1, 1)) + weights(1536, (384, 1, 1)) + fork
  block_c += weights(1536, (384, 1, 1), (448, 1, 3), (512, 3, 1)) + 2 * weights(512, (256, 1, 3))
  expected = stem + 4 * block_a + reduction_a + 7 * block_b + reduction_b + 3 * block_c
  assert trace("inception_v4").parameters() == expected + linear(1536, 1000)


@pytest.mark.parametrize(
  ("dialect", "first", "second"), [("paper", (1, 7), (7, 1)), ("timm", (7, 1), (1, 7))]
)
def test_dialects_differ_in_the_order_of_a_long_branch(dialect, first, second):
  kernels = trace("inception_v4", dialect).kernels("inception_b_1")
  long = [kernels[f"double_7x7_{i}"] for i in (2, 3, 4, 5)]
  assert [kernel[:2] for kernel in long] == [first, second, first, second]
  assert [kernel[3] for kernel in long] == [192, 224, 224, 256]
