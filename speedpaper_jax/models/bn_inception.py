"""BN-Inception: the network of the Batch Normalization paper (arXiv 1502.03167), Figure 5.

The five networks of section 4.2 differ in what their layers have in common (`LayerSettings`), in
local response normalization and in dropout, not in Figure 5's table.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models import features, heads, ops
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.dialect import SLIM_BATCH_NORM, CommonDialect
from speedpaper_jax.models.layers import (
  ConvBlock,
  LayerSettings,
  apply_and_pool,
  apply_siblings,
  network_input,
)


class Row(NamedTuple):
  """A row of Figure 5: the filters of one Inception module. Zero stands for a missing branch."""

  name: str
  conv_1x1: int
  conv_3x3_reduce: int
  conv_3x3: int
  double_3x3_reduce: int
  double_3x3: int
  pool: str  # "avg" or "max"
  pool_proj: int  # zero: the pooled input passes through
  strides: int = 1


# 4c and 4d: the figure prints a pool projection of 128, with which their outputs would have 608
# channels; the 576 of its own output column, and all that follows, asks for 96.
FIGURE_5 = (
  #   name  1×1  3×3r  3×3 dbl-r dbl  pool   proj
  Row("3a", 64, 64, 64, 64, 96, "avg", 32),
  Row("3b", 64, 64, 96, 64, 96, "avg", 64),
  Row("3c", 0, 128, 160, 64, 96, "max", 0, strides=2),
  Row("4a", 224, 64, 96, 96, 128, "avg", 128),
  Row("4b", 192, 96, 128, 96, 128, "avg", 128),
  Row("4c", 160, 128, 160, 128, 160, "avg", 96),
  Row("4d", 96, 128, 192, 160, 192, "avg", 96),
  Row("4e", 0, 128, 192, 192, 256, "max", 0, strides=2),
  Row("5a", 352, 192, 320, 160, 224, "avg", 128),
  Row("5b", 352, 192, 320, 192, 224, "max", 128),
)


# The figure to the letter: 608 channels after 4c and 4d, 1056 after 4e.
FIGURE_5_AS_PRINTED = tuple(
  row._replace(pool_proj=128) if row.name in ("4c", "4d") else row for row in FIGURE_5
)


@dataclasses.dataclass(frozen=True)
class Dialect(CommonDialect):
  """What implementations of BN-Inception differ in.

  Attributes:
    table: the Inception modules.
    stem_depth_multiplier: of the separable 7×7 convolution; None for a dense one.
    stem_has_batch_norm: whether the 7×7 convolution is normalised as all others are.
    stem_padding: of the 7×7 convolution.
    stride_padding: of 3×3 convolutions with stride 2.
    pool_padding: of the stem's pools.
  """

  table: tuple[Row, ...] = FIGURE_5
  stem_depth_multiplier: int | None = 8
  stem_has_batch_norm: bool = True
  stem_padding: ops.Padding = "SAME"
  stride_padding: ops.Padding = "SAME"
  pool_padding: ops.Padding = "SAME"


DIALECTS = {
  "paper": Dialect(),
  # The authors' code.
  "slim": Dialect(SLIM_BATCH_NORM, stem_has_batch_norm=False),
  # The network that was trained in Caffe, with Caffe's padding.
  "pretrainedmodels": Dialect(
    BatchNorm(decay=0.9, epsilon=1e-5),
    bias_before_batch_norm=True,
    count_padding=True,
    table=FIGURE_5_AS_PRINTED,
    stem_depth_multiplier=None,
    stem_padding=3,
    stride_padding=1,
    pool_padding="CEIL",
  ),
}


class InceptionModule(nn.Module):
  """An Inception module: GoogLeNet's, with the 5×5 convolution made of two 3×3 ones.

  In a module with stride 2 the last convolution of each branch carries the stride.
  """

  row: Row
  settings: LayerSettings
  dialect: Dialect

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → [N, H / strides, W / strides, sum of the branches]."""
    row, settings = self.row, self.settings

    def conv(name: str, filters: int, size: int, strides: int = 1, **options: Any) -> ConvBlock:
      padding = "SAME" if strides == 1 else self.dialect.stride_padding
      return ConvBlock(filters, (size, size), settings, strides, padding, **options, name=name)

    pointwise = [
      conv("conv_3x3_reduce", row.conv_3x3_reduce, 1),
      conv("double_3x3_reduce", row.double_3x3_reduce, 1),
    ]
    if row.conv_1x1:
      pointwise.append(conv("conv_1x1", row.conv_1x1, 1))
    if row.pool == "avg":
      pointwise.append(conv("pool_proj", row.pool_proj, 1, after_avg_pool=True))
    of_x = apply_siblings(self, pointwise, x, train=train)

    conv_3x3 = conv("conv_3x3", row.conv_3x3, 3, row.strides)
    first = conv("double_3x3_first", row.double_3x3, 3)
    second = conv("double_3x3_second", row.double_3x3, 3, row.strides)
    branches = [of_x["conv_1x1"]] if row.conv_1x1 else []
    branches += [
      conv_3x3(of_x["conv_3x3_reduce"], train=train),
      second(first(of_x["double_3x3_reduce"], train=train), train=train),
    ]
    if row.pool == "avg":
      branches.append(of_x["pool_proj"])
    else:
      # With stride 2 Caffe's padding is the same on even maps; on odd ones its pool would give a
      # smaller map than the convolutions beside it.
      pooled = settings.operations.max_pool(x, 3, row.strides, "SAME")
      pool_proj = conv("pool_proj", row.pool_proj, 1) if row.pool_proj else None
      branches.append(pool_proj(pooled, train=train) if pool_proj else pooled)
    return jnp.concatenate(branches, axis=-1)


class BNInception(nn.Module):
  """Figure 5, read from top to bottom.

  Attributes:
    num_classes: width of the softmax layer, the only fully connected one; 0 for pooled features
      [N, 1024] instead of logits.
    settings: what all layers have in common.
    dialect: whose table to follow.
    use_local_response_norm: GoogLeNet's two, after the first pool and after the second
      convolution; the BN-x networks have none (section 4.2.1).
    dropout_rate: before the softmax layer.
  """

  num_classes: int = 1000
  settings: LayerSettings = LayerSettings()
  dialect: Dialect = DIALECTS["paper"]
  use_local_response_norm: bool = False
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: [N, H, W, channels], normalised; 224×224 in the paper, and at 32×32 the last maps
        are 1×1.
      train: whether to use the batch's statistics and dropout (which needs a "dropout" key).

    Returns:
      logits: [N, num_classes], at least float32.
    """
    dialect = self.dialect
    settings = dialect.apply_to(self.settings)

    def max_pool(x: jax.Array) -> jax.Array:
      return settings.operations.max_pool(x, 3, 2, dialect.pool_padding)

    x = network_input(images, settings)
    stem = (
      settings if dialect.stem_has_batch_norm else dataclasses.replace(settings, batch_norm=None)
    )
    conv1 = ConvBlock(  # 7×7/2: 224 → 112
      64, (7, 7), stem, 2, dialect.stem_padding, dialect.stem_depth_multiplier, name="conv1"
    )
    x = apply_and_pool(self, conv1, x, max_pool, train=train)  # 112 → 56
    if self.use_local_response_norm:
      x = ops.local_response_norm(x)
    conv2_reduce = ConvBlock(64, (1, 1), settings, name="conv2_reduce")
    x = features.stage(self, "conv2_reduce", conv2_reduce(x, train=train))
    conv2 = ConvBlock(192, (3, 3), settings, name="conv2")
    if self.use_local_response_norm:
      x = max_pool(ops.local_response_norm(features.stage(self, "conv2", conv2(x, train=train))))
    else:
      x = apply_and_pool(self, conv2, x, max_pool, train=train)  # 56 → 28
    for row in dialect.table:  # 28 → 14 in 3c, 14 → 7 in 4e
      name = f"inception_{row.name}"
      x = InceptionModule(row, settings, dialect, name=name)(x, train=train)
      features.stage(self, name, x)
    return heads.classify(x, self.num_classes, self.dropout_rate, settings, train)


NETWORK = BNInception
