"""BN-Inception: the network of the Batch Normalization paper (arXiv 1502.03167), Figure 5.

The five networks of section 4.2 differ in what their layers have in common (`LayerSettings`), in
local response normalization and in dropout, not in Figure 5's table.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models import ops
from speedpaper_jax.models.layers import ConvBlock, Dropout, LayerSettings, kernel_init


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


@dataclasses.dataclass(frozen=True)
class Dialect:
  """What implementations of BN-Inception differ in.

  Attributes:
    table: the Inception modules.
    stem_depth_multiplier: of the separable 7×7 convolution.
  """

  table: tuple[Row, ...]
  stem_depth_multiplier: int


DIALECTS = {"paper": Dialect(table=FIGURE_5, stem_depth_multiplier=8)}


class InceptionModule(nn.Module):
  """An Inception module: GoogLeNet's, with the 5×5 convolution made of two 3×3 ones.

  In a module with stride 2 the last convolution of each branch carries the stride.
  """

  row: Row
  settings: LayerSettings

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → [N, H / strides, W / strides, sum of the branches]."""
    row, settings = self.row, self.settings

    def conv(name: str, features: int, size: int, x: jax.Array, strides: int = 1) -> jax.Array:
      return ConvBlock(features, (size, size), settings, strides, name=name)(x, train=train)

    branches = []
    if row.conv_1x1:
      branches.append(conv("conv_1x1", row.conv_1x1, 1, x))

    reduced = conv("conv_3x3_reduce", row.conv_3x3_reduce, 1, x)
    branches.append(conv("conv_3x3", row.conv_3x3, 3, reduced, row.strides))

    reduced = conv("double_3x3_reduce", row.double_3x3_reduce, 1, x)
    first = conv("double_3x3_first", row.double_3x3, 3, reduced)
    branches.append(conv("double_3x3_second", row.double_3x3, 3, first, row.strides))

    operations = settings.operations
    pool = {"avg": operations.avg_pool, "max": operations.max_pool}[row.pool]
    pooled = pool(x, 3, row.strides, "SAME")
    branches.append(conv("pool_proj", row.pool_proj, 1, pooled) if row.pool_proj else pooled)
    return jnp.concatenate(branches, axis=-1)


class BNInception(nn.Module):
  """Figure 5, read from top to bottom.

  Attributes:
    num_classes: width of the softmax layer, the only fully connected one.
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
      images: [N, H, W, 3], normalised; 224×224 in the paper, and at 32×32 the last maps are 1×1.
      train: whether to use the batch's statistics and dropout (which needs a "dropout" key).

    Returns:
      logits: [N, num_classes], at least float32.
    """
    settings, max_pool = self.settings, self.settings.operations.max_pool

    def conv(name: str, features: int, size: int, x: jax.Array) -> jax.Array:
      return ConvBlock(features, (size, size), settings, name=name)(x, train=train)

    x = images.astype(settings.dtype)
    x = ConvBlock(  # 7×7/2: 224 → 112
      64, (7, 7), settings, 2, depth_multiplier=self.dialect.stem_depth_multiplier, name="conv1"
    )(x, train=train)
    x = max_pool(x, 3, 2, "SAME")  # 112 → 56
    if self.use_local_response_norm:
      x = ops.local_response_norm(x)
    x = conv("conv2_reduce", 64, 1, x)
    x = conv("conv2", 192, 3, x)
    if self.use_local_response_norm:
      x = ops.local_response_norm(x)
    x = max_pool(x, 3, 2, "SAME")  # 56 → 28
    for row in self.dialect.table:  # 28 → 14 in 3c, 14 → 7 in 4e
      x = InceptionModule(row, settings, name=f"inception_{row.name}")(x, train=train)
    x = jnp.mean(x, (1, 2))  # 7×7 average pool
    x = Dropout(self.dropout_rate, settings.axis_name)(x, train=train)
    logits = nn.Dense(
      self.num_classes, dtype=settings.dtype, kernel_init=kernel_init, name="logits"
    )(x)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
