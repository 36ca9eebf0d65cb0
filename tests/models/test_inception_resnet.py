"""Inception-ResNet-v1 and -v2 against Figures 10 to 20 and Table 1 of their paper."""

import dataclasses

import jax
import numpy as np
import pytest
from networks import linear, trace, trace_anew, weights

from speedpaper_jax.models import create
from speedpaper_jax.models.blocks import Conv, branch
from speedpaper_jax.models.inception_resnet import ResidualBlock
from speedpaper_jax.models.layers import LayerSettings

V1, V2 = "inception_resnet_v1", "inception_resnet_v2"


def blocks(stem, counts, channels):
  """Stages of the stem, of the blocks A, B and C, and of the reductions between them."""
  a, b, c = counts
  at_35, at_17, at_8 = channels
  return {
    **stem,
    **{f"block_a_{i}": (35, 35, at_35) for i in range(1, a + 1)},
    "reduction_a": (17, 17, at_17),
    **{f"block_b_{i}": (17, 17, at_17) for i in range(1, b + 1)},
    "reduction_b": (8, 8, at_8),
    **{f"block_c_{i}": (8, 8, at_8) for i in range(1, c + 1)},
  }


FIRST = {
  "conv_1a_3x3": (149, 149, 32),
  "conv_2a_3x3": (147, 147, 32),
  "conv_2b_3x3": (147, 147, 64),
}
FIGURE_14 = {
  **FIRST,
  "pool_3a": (73, 73, 64),
  "conv_3b_1x1": (73, 73, 80),
  "conv_4a_3x3": (71, 71, 192),
  "conv_4b_3x3": (35, 35, 256),
}
FIGURE_3 = {
  **FIRST,
  "mixed_3a": (73, 73, 160),
  "mixed_4a": (71, 71, 192),
  "mixed_5a": (35, 35, 384),
}
PUBLISHED = {
  **FIRST,
  "pool_3a": (73, 73, 64),
  "conv_3b_1x1": (73, 73, 80),
  "conv_4a_3x3": (71, 71, 192),
  "pool_5a": (35, 35, 192),
  "mixed_5b": (35, 35, 320),
}


@pytest.mark.parametrize(
  ("name", "dialect", "expected"),
  [
    (V1, "paper", blocks(FIGURE_14, (5, 10, 5), (256, 896, 1792))),
    (V2, "paper", blocks(FIGURE_3, (5, 10, 5), (384, 1152, 2144))),
    (
      V1,
      "facenet",
      {**blocks(FIGURE_14, (5, 10, 5), (256, 896, 1792)), "block_c_last": (8, 8, 1792)},
    ),
    (
      V2,
      "timm",
      {
        **blocks(PUBLISHED, (10, 20, 9), (320, 1088, 2080)),
        "block_c_last": (8, 8, 2080),
        "conv_last": (8, 8, 1536),
      },
    ),
  ],
)
def test_output_sizes(name, dialect, expected):
  assert trace(name, dialect).stages() == expected


class TestParametersByTheFigures:
  def test_v1(self):
    total = weights(3, (32, 3, 3), (32, 3, 3), (64, 3, 3))
    total += weights(64, (80, 1, 1), (192, 3, 3), (256, 3, 3))
    a = weights(256, (32, 1, 1)) + weights(256, (32, 1, 1), (32, 3, 3))  # Figure 10
    a += weights(256, (32, 1, 1), (32, 3, 3), (32, 3, 3)) + linear(96, 256)
    b = weights(896, (128, 1, 1)) + weights(896, (128, 1, 1), (128, 1, 7), (128, 7, 1))
    b += linear(256, 896)  # Figure 11
    c = weights(1792, (192, 1, 1)) + weights(1792, (192, 1, 1), (192, 1, 3), (192, 3, 1))
    c += linear(384, 1792)  # Figure 13
    total += 5 * a + 10 * b + 5 * c
    total += weights(256, (384, 3, 3)) + weights(256, (192, 1, 1), (192, 3, 3), (256, 3, 3))
    total += weights(896, (256, 1, 1), (384, 3, 3)) + weights(896, (256, 1, 1), (256, 3, 3))
    total += weights(896, (256, 1, 1), (256, 3, 3), (256, 3, 3))  # Figure 12
    assert trace(V1).parameters() == total + linear(1792, 1000)

  def test_v2(self):
    total = weights(3, (32, 3, 3), (32, 3, 3), (64, 3, 3), (96, 3, 3))  # Figure 3
    total += weights(160, (64, 1, 1), (96, 3, 3)) + weights(192, (192, 3, 3))
    total += weights(160, (64, 1, 1), (64, 7, 1), (64, 1, 7), (96, 3, 3))
    a = weights(384, (32, 1, 1)) + weights(384, (32, 1, 1), (32, 3, 3))  # Figure 16
    a += weights(384, (32, 1, 1), (48, 3, 3), (64, 3, 3)) + linear(128, 384)
    b = weights(1152, (192, 1, 1)) + weights(1152, (128, 1, 1), (160, 1, 7), (192, 7, 1))
    b += linear(384, 1152)  # Figure 17
    c = weights(2144, (192, 1, 1)) + weights(2144, (192, 1, 1), (224, 1, 3), (256, 3, 1))
    c += linear(448, 2144)  # Figure 19
    total += 5 * a + 10 * b + 5 * c
    total += weights(384, (384, 3, 3)) + weights(384, (256, 1, 1), (256, 3, 3), (384, 3, 3))
    total += weights(1152, (256, 1, 1), (384, 3, 3)) + weights(1152, (256, 1, 1), (288, 3, 3))
    total += weights(1152, (256, 1, 1), (288, 3, 3), (320, 3, 3))  # Figure 18
    assert trace(V2).parameters() == total + linear(2144, 1000)


def test_facenet_is_as_large_as_facenet_pytorchs():
  """Its embeddings alone: 512 numbers, normalised to length 1."""
  traced = trace(V1, "facenet", num_classes=0)
  assert traced.parameters() == 23_482_624
  assert traced.outputs.shape == (2, 512)


class TestResidualBlock:
  """x + scale · linear(branches of x), and its nonlinearity."""

  X = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype("float32")

  def outputs(self, scale, activation):
    branches = (branch("conv_1x1", Conv(2)), branch("conv_3x3", Conv(2), Conv(3, 3)))
    block = ResidualBlock(branches, scale, activation, LayerSettings())
    variables = block.init(jax.random.key(0), self.X, train=False)
    return block.apply(variables, self.X, train=False)

  def test_the_residual_is_scaled(self):
    whole, tenth = self.outputs(1.0, None) - self.X, self.outputs(0.1, None) - self.X
    assert np.std(whole) > 0.1
    np.testing.assert_allclose(tenth, 0.1 * whole, atol=1e-6)

  def test_the_nonlinearity_is_that_of_the_sum(self):
    rectified = np.maximum(self.outputs(0.3, None), 0)
    np.testing.assert_array_equal(self.outputs(0.3, "relu"), rectified)

  def test_nothing_is_normalised_on_top_of_it(self):
    params = trace(V1).variables["params"]["block_a_1"]["linear"]
    assert {name: leaf.shape for name, leaf in params.items()} == {
      "kernel": (1, 1, 96, 256),
      "bias": (256,),
    }


class TestResidualScales:
  @pytest.mark.parametrize(("name", "dialect"), [(V1, "paper"), (V2, "timm")])
  @pytest.mark.parametrize(
    ("given", "expected"), [(None, (0.17, 0.10, 0.20)), ((0.3, 0.2, 0.1), (0.3, 0.2, 0.1))]
  )
  def test_are_the_dialects_or_those_given(self, name, dialect, given, expected, monkeypatch):
    used = {}
    original = ResidualBlock.__post_init__

    def record(self):
      original(self)
      used.setdefault(self.name, (self.scale, self.activation))

    monkeypatch.setattr(ResidualBlock, "__post_init__", record)
    trace_anew(name, dialect, residual_scales=given)
    for letter, scale in zip("abc", expected, strict=True):
      found = {value for key, value in used.items() if key and key.startswith(f"block_{letter}_")}
      assert found - {(1.0, None)} == {(scale, "relu")}
    assert (used.get("block_c_last") == (1.0, None)) == (dialect == "timm")


def test_v2_paper_and_published_are_different_networks():
  paper, published = create(V2).dialect, create(V2, "timm").dialect
  changed = {
    field.name
    for field in dataclasses.fields(paper)
    if getattr(paper, field.name) != getattr(published, field.name)
  }
  assert changed == {"batch_norm", "stem", "counts", "has_unscaled_last_block", "last_conv"}
