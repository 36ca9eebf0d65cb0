"""Networks on the way from GoogLeNet to BN-Inception.

GoogLeNet's Table 1 can be written in rows of BN-Inception's Figure 5; what else the two networks
differ in is in the other fields of a `Variant`. Local response normalization and dropout are left
out: they have neither parameters nor multiply-adds.
"""

import dataclasses

import flax.linen as nn
import jax

from speedpaper_jax.models import features, heads, ops
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.blocks import Branch, Conv, Pool, apply_part, branch
from speedpaper_jax.models.bn_inception import DIALECTS, FIGURE_5, Row
from speedpaper_jax.models.googlenet import TABLE_1
from speedpaper_jax.models.layers import ConvBlock, LayerSettings


@dataclasses.dataclass(frozen=True)
class Variant:
  """What the networks differ in.

  Attributes:
    rows: the Inception modules.
    two_3x3: whether the convolutions that a row calls `double_3x3` are two of 3×3; else there is
      one of 5×5 in their place.
    pools_before: modules that have a 3×3 max pool with stride 2 in front of them.
    stem_depth_multiplier: of the separable 7×7 convolution; None for a dense one.
    batch_norm: None for biases.
  """

  rows: tuple[Row, ...]
  two_3x3: bool
  pools_before: frozenset[str]
  stem_depth_multiplier: int | None
  batch_norm: BatchNorm | None

  @property
  def weight_layers(self) -> int:
    """Number of layers with weights on the longest way from the image to the logits."""
    # Three convolutions in front, the softmax layer; in a module the 1×1 and what follows it.
    return 3 + len(self.rows) * (3 if self.two_3x3 else 2) + 1


GOOGLENET = Variant(
  rows=tuple(
    Row(
      name=row.name,
      conv_1x1=row.conv_1x1,
      conv_3x3_reduce=row.conv_3x3_reduce,
      conv_3x3=row.conv_3x3,
      double_3x3_reduce=row.conv_5x5_reduce,
      double_3x3=row.conv_5x5,
      pool="max",
      pool_proj=row.pool_proj,
    )
    for row in TABLE_1
  ),
  two_3x3=False,
  pools_before=frozenset({"4a", "5a"}),
  stem_depth_multiplier=8,
  batch_norm=None,
)
BN_INCEPTION = Variant(
  rows=FIGURE_5,
  two_3x3=True,
  pools_before=frozenset(),
  stem_depth_multiplier=8,
  batch_norm=DIALECTS["paper"].batch_norm,
)


class VariantNetwork(nn.Module):
  """The network of a `Variant`; its stages have the names of BN-Inception's."""

  variant: Variant
  num_classes: int

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, 3] → logits [N, num_classes]."""
    settings = LayerSettings(self.variant.batch_norm)

    def conv(
      name: str,
      filters: int,
      size: int,
      x: jax.Array,
      strides: int = 1,
      depth_multiplier: int | None = None,
    ) -> jax.Array:
      block = ConvBlock(
        filters, (size, size), settings, strides, "SAME", depth_multiplier, name=name
      )
      return features.stage(self, name, block(x, train=train))

    x = conv("conv1", 64, 7, images, 2, self.variant.stem_depth_multiplier)
    x = ops.max_pool(x, 3, 2, "SAME")
    x = conv("conv2_reduce", 64, 1, x)
    x = conv("conv2", 192, 3, x)
    x = ops.max_pool(x, 3, 2, "SAME")
    for row in self.variant.rows:
      if row.name in self.variant.pools_before:
        x = ops.max_pool(x, 3, 2, "SAME")
      name = f"inception_{row.name}"
      x = apply_part(name, _branches(row, self.variant.two_3x3), settings, x, train)
      features.stage(self, name, x)
    return heads.classify(x, self.num_classes, 0.0, settings, train)


def _branches(row: Row, two_3x3: bool) -> tuple[Branch, ...]:
  filters, strides = row.double_3x3, row.strides
  large = (Conv(filters, 3), Conv(filters, 3, strides)) if two_3x3 else (Conv(filters, 5, strides),)
  pointwise = (branch("conv_1x1", Conv(row.conv_1x1)),) if row.conv_1x1 else ()
  projection = (Conv(row.pool_proj),) if row.pool_proj else ()
  return (
    *pointwise,
    branch("conv_3x3", Conv(row.conv_3x3_reduce), Conv(row.conv_3x3, 3, strides)),
    branch("large_conv", Conv(row.double_3x3_reduce), *large),
    branch("pool_proj", Pool(row.pool, strides), *projection),
  )
