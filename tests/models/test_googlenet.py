"""GoogLeNet against Table 1 and section 5 of its paper."""

import pytest
from networks import linear, trace, trace_anew

from speedpaper_jax.models import googlenet, ops

# Table 1's column of output sizes.
OUTPUTS_AT_224 = {
  "conv1": (112, 112, 64),
  "conv2_reduce": (56, 56, 64),
  "conv2": (56, 56, 192),
  "inception_3a": (28, 28, 256),
  "inception_3b": (28, 28, 480),
  "inception_4a": (14, 14, 512),
  "inception_4b": (14, 14, 512),
  "inception_4c": (14, 14, 512),
  "inception_4d": (14, 14, 528),
  "inception_4e": (14, 14, 832),
  "inception_5a": (7, 7, 832),
  "inception_5b": (7, 7, 1024),
}


@pytest.mark.parametrize("dialect", ["paper", "torchvision"])
def test_output_sizes(dialect):
  assert trace("googlenet", dialect).stages() == OUTPUTS_AT_224


def test_parameters_by_the_table():
  """Weights and biases of every filter; the 7×7 is separable, as the table's 2.7K say."""
  total = 7 * 7 * 3 * 8 + linear(24, 64)
  total += linear(64, 64) + linear(9 * 64, 192)
  channels = 192
  for row in googlenet.TABLE_1:
    total += linear(channels, row.conv_1x1)
    total += linear(channels, row.conv_3x3_reduce) + linear(9 * row.conv_3x3_reduce, row.conv_3x3)
    total += linear(channels, row.conv_5x5_reduce) + linear(25 * row.conv_5x5_reduce, row.conv_5x5)
    total += linear(channels, row.pool_proj)
    channels = row.conv_1x1 + row.conv_3x3 + row.conv_5x5 + row.pool_proj
  total += linear(1024, 1000)
  assert trace("googlenet", use_aux_heads=False).parameters() == total


def test_parameters_of_the_auxiliary_heads():
  """Section 5: 4×4×512 and 4×4×528 → 1×1 128 → 1024 → 1000."""
  heads = sum(
    linear(channels, 128) + linear(4 * 4 * 128, 1024) + linear(1024, 1000)
    for channels in (512, 528)
  )
  without = trace("googlenet", use_aux_heads=False).parameters()
  assert trace("googlenet").parameters() == without + heads


def test_filters_of_a_module():
  assert trace("googlenet").kernels("inception_3a") == {
    "conv_1x1": (1, 1, 192, 64),
    "conv_3x3_reduce": (1, 1, 192, 96),
    "conv_3x3": (3, 3, 96, 128),
    "conv_5x5_reduce": (1, 1, 192, 16),
    "conv_5x5": (5, 5, 16, 32),
    "pool_proj": (1, 1, 192, 32),
  }


def test_torchvision_has_3x3_in_place_of_5x5():
  assert trace("googlenet", "torchvision").kernels("inception_3a")["conv_5x5"] == (3, 3, 16, 32)


@pytest.mark.parametrize(("dialect", "has_batch_norm"), [("paper", False), ("torchvision", True)])
def test_batch_normalization_is_not_the_papers(dialect, has_batch_norm):
  variables = trace("googlenet", dialect).variables
  assert ("batch_stats" in variables) == has_batch_norm
  assert ("bias" in variables["params"]["conv2"]["conv"]) != has_batch_norm


@pytest.mark.parametrize(
  ("dialect", "expected"), [("paper", [(56, 56, 64), (56, 56, 192)]), ("torchvision", [])]
)
def test_local_response_normalization_of_figure_3(dialect, expected, monkeypatch):
  calls, original = [], ops.local_response_norm
  monkeypatch.setattr(
    ops, "local_response_norm", lambda x: calls.append(x.shape[1:]) or original(x)
  )
  trace_anew("googlenet", dialect)
  assert calls == expected * 2  # in `init` and in `apply`


def test_both_dropouts_are_the_papers():
  network = googlenet.GoogLeNet()
  assert (network.dropout_rate, network.aux_dropout_rate) == (0.4, 0.7)
