"""The small Inception against Figure 3 and Table 1 of arXiv 1611.03530."""

import pytest
from networks import linear, trace

from speedpaper_jax.models.dialect import SLIM_BATCH_NORM
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.papers import small_inception as paper

FIGURE_3 = {
  "conv1": (28, 28, 96),
  "inception_1a": (28, 28, 32 + 32),
  "inception_1b": (28, 28, 32 + 48),
  "downsample_1": (14, 14, 80 + 80),
  "inception_2a": (14, 14, 112 + 48),
  "inception_2b": (14, 14, 96 + 64),
  "inception_2c": (14, 14, 80 + 80),
  "inception_2d": (14, 14, 48 + 96),
  "downsample_2": (7, 7, 96 + 144),
  "inception_3a": (7, 7, 176 + 160),
  "inception_3b": (7, 7, 176 + 160),
}
WITH_BATCH_NORM, WITHOUT = LayerSettings(SLIM_BATCH_NORM), LayerSettings(None)


def test_stages():
  assert trace("small_inception").stages() == FIGURE_3


@pytest.mark.parametrize("settings", [WITH_BATCH_NORM, WITHOUT], ids=["with", "without"])
def test_table_1_counts_as_many_parameters_with_batch_normalization_as_without(settings):
  traced = trace("small_inception", num_classes=10, settings=settings)
  assert traced.parameters() == paper.PARAMETERS


def test_each_filter_has_one_value_beside_its_kernel():
  """β where there is batch normalization, else a bias."""
  params = trace("small_inception", settings=WITH_BATCH_NORM).variables["params"]
  assert params["conv1"].keys() == {"conv", "batch_norm"}
  assert (params["conv1"]["conv"].keys(), params["conv1"]["batch_norm"].keys()) == (
    {"kernel"},
    {"bias"},
  )
  params = trace("small_inception", settings=WITHOUT).variables["params"]
  assert {*params["conv1"]} == {"conv"}
  assert params["conv1"]["conv"].keys() == {"kernel", "bias"}


def test_modules_by_hand():
  """A 1×1 and a 3×3 convolution beside each other, and a pool that has none."""
  traced = trace("small_inception", num_classes=10)
  assert traced.kernels("inception_2d") == {
    "conv_1x1": (1, 1, 160, 48),
    "conv_3x3": (3, 3, 160, 96),
  }
  assert traced.kernels("downsample_2") == {"conv_3x3": (3, 3, 144, 96)}
  params = traced.variables["params"]["logits"]
  assert sum(leaf.size for leaf in params.values()) == linear(176 + 160, 10)


def test_the_last_maps_of_four_pixels_have_one():
  assert trace("small_inception", size=4).stages()["inception_3b"] == (1, 1, 336)
