"""GoogLeNet: Going Deeper with Convolutions (arXiv 1409.4842), Table 1 and Figure 3."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models import features, heads, ops
from speedpaper_jax.models.dialect import TORCH_BATCH_NORM, CommonDialect
from speedpaper_jax.models.layers import (
  ACTIVATIONS,
  ConvBlock,
  Dropout,
  LayerSettings,
  apply_and_pool,
  apply_siblings,
  kernel_init,
  network_input,
)


class Row(NamedTuple):
  """A row of Table 1: the filters of one Inception module."""

  name: str
  conv_1x1: int
  conv_3x3_reduce: int
  conv_3x3: int
  conv_5x5_reduce: int
  conv_5x5: int
  pool_proj: int


TABLE_1 = (
  #   name  1×1  3×3r  3×3 5×5r 5×5 proj
  Row("3a", 64, 96, 128, 16, 32, 32),
  Row("3b", 128, 128, 192, 32, 96, 64),
  Row("4a", 192, 96, 208, 16, 48, 64),
  Row("4b", 160, 112, 224, 24, 64, 64),
  Row("4c", 128, 128, 256, 24, 64, 64),
  Row("4d", 112, 144, 288, 32, 64, 64),
  Row("4e", 256, 160, 320, 32, 128, 128),
  Row("5a", 256, 160, 320, 32, 128, 128),
  Row("5b", 384, 192, 384, 48, 128, 128),
)
AUX_HEADS = {"4a": "aux1", "4d": "aux2"}


@dataclasses.dataclass(frozen=True)
class Dialect(CommonDialect):
  """What implementations of GoogLeNet differ in.

  Attributes:
    large_conv: size of what Table 1 calls 5×5.
    stem_depth_multiplier: of the separable 7×7 convolution; None for a dense one. The table prints
      2.7K weights and 34M operations for it, a separable one's with multiplier 8.
    stem_padding: of the 7×7 convolution.
    use_local_response_norm: whether the two of Figure 3 are there.
    pool_padding: of the pools with stride 2.
    last_pool: window of the pool between 4e and 5a.
    adaptive_aux_pool: whether auxiliary heads reach their 4×4 maps by PyTorch's adaptive pool.
  """

  large_conv: int = 5
  stem_depth_multiplier: int | None = 8
  stem_padding: ops.Padding = "SAME"
  use_local_response_norm: bool = True
  pool_padding: ops.Padding = "SAME"
  last_pool: int = 3
  adaptive_aux_pool: bool = False


DIALECTS = {
  "paper": Dialect(batch_norm=None),
  "torchvision": Dialect(
    TORCH_BATCH_NORM,
    large_conv=3,
    stem_depth_multiplier=None,
    stem_padding=3,
    use_local_response_norm=False,
    pool_padding="CEIL",
    last_pool=2,
    adaptive_aux_pool=True,
  ),
}


class InceptionModule(nn.Module):
  """Figure 2(b): an Inception module with dimension reductions."""

  row: Row
  settings: LayerSettings
  large_conv: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → [N, H, W, sum of the branches]."""
    row, settings = self.row, self.settings

    def conv(name: str, filters: int, size: int) -> ConvBlock:
      return ConvBlock(filters, (size, size), settings, name=name)

    of_x = apply_siblings(
      self,
      [
        conv("conv_1x1", row.conv_1x1, 1),
        conv("conv_3x3_reduce", row.conv_3x3_reduce, 1),
        conv("conv_5x5_reduce", row.conv_5x5_reduce, 1),
      ],
      x,
      train=train,
    )
    pooled = settings.operations.max_pool(x, 3, 1, "SAME")
    branches = [
      of_x["conv_1x1"],
      conv("conv_3x3", row.conv_3x3, 3)(of_x["conv_3x3_reduce"], train=train),
      conv("conv_5x5", row.conv_5x5, self.large_conv)(of_x["conv_5x5_reduce"], train=train),
      conv("pool_proj", row.pool_proj, 1)(pooled, train=train),
    ]
    return jnp.concatenate(branches, axis=-1)


class AuxiliaryHead(nn.Module):
  """The side branch of section 5, on 4a and 4d.

  Attributes:
    num_classes: width of its softmax layer.
    dropout_rate: 0.7 in the paper.
    settings: what all layers have in common.
    adaptive_pool: see `Dialect`; else 5×5 with stride 3, smaller where the map is smaller.
  """

  num_classes: int
  dropout_rate: float
  settings: LayerSettings
  adaptive_pool: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → logits [N, num_classes]."""
    settings = self.settings
    if self.adaptive_pool:
      x = ops.adaptive_avg_pool(x, 4)
    else:
      x = settings.operations.avg_pool(x, min(5, *x.shape[1:3]), 3, "VALID", False)
    x = ConvBlock(128, (1, 1), settings, name="reduce")(x, train=train)
    # Of all three axes of the map, so that the kernel's first three name them.
    x = nn.DenseGeneral(
      settings.filters(1024),
      axis=(-3, -2, -1),
      dtype=settings.dtype,
      kernel_init=kernel_init,
      dot_general=settings.operations.dot_general,
      promote_dtype=settings.operations.promote_dtype,
      name="fully_connected",
    )(x)
    x = ACTIVATIONS[settings.activation](x.astype(settings.dtype))
    x = Dropout(self.dropout_rate, settings.axis_name)(x, train=train)
    return heads.logits(x, self.num_classes, settings)


class GoogLeNet(nn.Module):
  """Table 1, read from top to bottom.

  Attributes:
    num_classes: width of the softmax layer; 0 for pooled features [N, 1024] instead of logits.
    settings: what all layers have in common.
    dialect: whose implementation to match.
    dropout_rate: before the softmax layer.
    aux_dropout_rate: before the auxiliary heads' softmax layers.
    use_aux_heads: whether 4a and 4d have auxiliary heads ("aux1", "aux2").
  """

  num_classes: int = 1000
  settings: LayerSettings = LayerSettings(batch_norm=None)
  dialect: Dialect = DIALECTS["paper"]
  dropout_rate: float = 0.4
  aux_dropout_rate: float = 0.7
  use_aux_heads: bool = True

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: [N, H, W, channels], normalised; 224×224 in the paper, and at 32×32 the last maps
        are 1×1.
      train: whether to use the batch's statistics, dropout (which needs a "dropout" key) and the
        auxiliary heads.

    Returns:
      logits: [N, num_classes], at least float32.
    """
    dialect = self.dialect
    settings = dialect.apply_to(self.settings)

    def max_pool(x: jax.Array, window: int = 3) -> jax.Array:
      return settings.operations.max_pool(x, window, 2, dialect.pool_padding)

    x = network_input(images, settings)
    conv1 = ConvBlock(  # 7×7/2: 224 → 112
      64, (7, 7), settings, 2, dialect.stem_padding, dialect.stem_depth_multiplier, name="conv1"
    )
    x = apply_and_pool(self, conv1, x, max_pool, train=train)  # 112 → 56
    if dialect.use_local_response_norm:
      x = ops.local_response_norm(x)
    conv2_reduce = ConvBlock(64, (1, 1), settings, name="conv2_reduce")
    x = features.stage(self, "conv2_reduce", conv2_reduce(x, train=train))
    conv2 = ConvBlock(192, (3, 3), settings, name="conv2")
    if dialect.use_local_response_norm:
      x = max_pool(ops.local_response_norm(features.stage(self, "conv2", conv2(x, train=train))))
    else:
      x = apply_and_pool(self, conv2, x, max_pool, train=train)  # 56 → 28
    for row in TABLE_1:
      if row.name == "4a":
        x = max_pool(x)  # 28 → 14
      if row.name == "5a":
        x = max_pool(x, dialect.last_pool)  # 14 → 7
      name = f"inception_{row.name}"
      x = InceptionModule(row, settings, dialect.large_conv, name=name)(x, train=train)
      features.stage(self, name, x)
      if row.name in AUX_HEADS:
        self._auxiliary_head(AUX_HEADS[row.name], x, settings, train)
    return heads.classify(x, self.num_classes, self.dropout_rate, settings, train)

  def _auxiliary_head(self, name: str, x: jax.Array, settings: LayerSettings, train: bool) -> None:
    """It works in training alone."""
    if self.use_aux_heads and self.num_classes and (train or self.is_initializing()):
      head = AuxiliaryHead(
        self.num_classes,
        self.aux_dropout_rate,
        settings,
        self.dialect.adaptive_aux_pool,
        name=name,
      )
      features.aux_logits(self, name, head(x, train=train))


NETWORK = GoogLeNet
