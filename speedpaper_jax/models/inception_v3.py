"""Inception-v3: Rethinking the Inception Architecture (arXiv 1512.00567), Table 1.

The paper leaves the filter sizes of the blocks to a file that was never published with it, so the
default dialect is `slim`, the authors' own code, whose network it is known by. That differs from
the table in the stem: of the three 3×3 convolutions after the first pool, the first is a 1×1 with
80 filters, and the last one a second pool.
"""

import dataclasses

import flax.linen as nn
import jax

from speedpaper_jax.models import heads
from speedpaper_jax.models.blocks import (
  AVG_POOL,
  MAX_POOL_V,
  Branch,
  Conv,
  Part,
  Pool,
  apply_table,
  branch,
  fork,
)
from speedpaper_jax.models.dialect import SLIM_BATCH_NORM, TORCH_BATCH_NORM, CommonDialect
from speedpaper_jax.models.layers import LayerSettings, network_input


def inception_5(pool_proj: int) -> tuple[Branch, ...]:
  """Figure 5, at 35×35; the authors' code keeps GoogLeNet's 5×5 in the second branch."""
  return (
    branch("conv_1x1", Conv(64)),
    branch("conv_5x5", Conv(48), Conv(64, 5)),
    branch("double_3x3", Conv(64), Conv(96, 3), Conv(96, 3)),
    branch("pool_proj", AVG_POOL, Conv(pool_proj)),
  )


REDUCTION_6A = (  # Figure 10, 35×35 → 17×17
  branch("conv_3x3", Conv(384, 3, strides=2, padding="VALID")),
  branch("double_3x3", Conv(64), Conv(96, 3), Conv(96, 3, strides=2, padding="VALID")),
  branch("pool", MAX_POOL_V),
)


def inception_6(width: int) -> tuple[Branch, ...]:
  """Figure 6, at 17×17 with n = 7."""
  return (
    branch("conv_1x1", Conv(192)),
    branch("conv_7x7", Conv(width), Conv(width, (1, 7)), Conv(192, (7, 1))),
    branch(
      "double_7x7",
      Conv(width),
      Conv(width, (7, 1)),
      Conv(width, (1, 7)),
      Conv(width, (7, 1)),
      Conv(192, (1, 7)),
    ),
    branch("pool_proj", AVG_POOL, Conv(192)),
  )


REDUCTION_7A = (  # Figure 10, 17×17 → 8×8
  branch("conv_3x3", Conv(192), Conv(320, 3, strides=2, padding="VALID")),
  branch(
    "conv_7x7_3x3",
    Conv(192),
    Conv(192, (1, 7)),
    Conv(192, (7, 1)),
    Conv(192, 3, strides=2, padding="VALID"),
  ),
  branch("pool", MAX_POOL_V),
)


def inception_7(pool: Pool) -> tuple[Branch, ...]:
  """Figure 7, at 8×8: the expanded filter bank."""
  return (
    branch("conv_1x1", Conv(320)),
    branch("conv_3x3", Conv(384), fork(Conv(384, (1, 3)), Conv(384, (3, 1)))),
    branch("double_3x3", Conv(448), Conv(384, 3), fork(Conv(384, (1, 3)), Conv(384, (3, 1)))),
    branch("pool_proj", pool, Conv(192)),
  )


TABLE_1: tuple[tuple[str, Part], ...] = (  # without its last block, see `Dialect`
  ("conv_1a_3x3", Conv(32, 3, strides=2, padding="VALID")),  # 299 → 149
  ("conv_2a_3x3", Conv(32, 3, padding="VALID")),  # 149 → 147
  ("conv_2b_3x3", Conv(64, 3)),
  ("pool_3a", MAX_POOL_V),  # 147 → 73
  ("conv_3b_1x1", Conv(80)),
  ("conv_4a_3x3", Conv(192, 3, padding="VALID")),  # 73 → 71
  ("pool_5a", MAX_POOL_V),  # 71 → 35
  ("mixed_5b", inception_5(pool_proj=32)),
  ("mixed_5c", inception_5(pool_proj=64)),
  ("mixed_5d", inception_5(pool_proj=64)),
  ("mixed_6a", REDUCTION_6A),  # 35 → 17
  ("mixed_6b", inception_6(128)),
  ("mixed_6c", inception_6(160)),
  ("mixed_6d", inception_6(160)),
  ("mixed_6e", inception_6(192)),
  ("mixed_7a", REDUCTION_7A),  # 17 → 8
  ("mixed_7b", inception_7(AVG_POOL)),
)


@dataclasses.dataclass(frozen=True)
class Dialect(CommonDialect):
  """What implementations of Inception-v3 differ in.

  Attributes:
    last_pool: of the last block's projection.
  """

  last_pool: Pool = AVG_POOL

  def table(self) -> tuple[tuple[str, Part], ...]:
    """Table 1, without its last three rows."""
    return (*TABLE_1, ("mixed_7c", inception_7(self.last_pool)))


DIALECTS = {
  "slim": Dialect(SLIM_BATCH_NORM),
  "timm": Dialect(TORCH_BATCH_NORM, count_padding=True),
  "torchvision": Dialect(TORCH_BATCH_NORM, count_padding=True),
  # The network of 2015-12-05, of 1008 classes, that the Fréchet inception distance (arXiv
  # 1706.08500) is computed with: its last pool takes the largest value.
  "fid": Dialect(TORCH_BATCH_NORM, last_pool=Pool("max")),
}


class InceptionV3(nn.Module):
  """Table 1, read from top to bottom.

  Attributes:
    num_classes: width of the softmax layer; 0 for pooled features [N, 2048] instead of logits.
    settings: what all layers have in common.
    dialect: whose implementation to match.
    dropout_rate: before the softmax layer.
    use_aux_heads: whether the last 17×17 maps have an auxiliary head (Figure 8).
  """

  num_classes: int = 1000
  settings: LayerSettings = LayerSettings()
  dialect: Dialect = DIALECTS["slim"]
  dropout_rate: float = 0.2
  use_aux_heads: bool = True

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: [N, H, W, channels], normalised; 299×299 in the paper, 75×75 at least.
      train: whether to use the batch's statistics, dropout (which needs a "dropout" key) and the
        auxiliary head.

    Returns:
      logits: [N, num_classes], at least float32.
    """
    settings = self.dialect.apply_to(self.settings)
    x = network_input(images, settings)

    def auxiliary_head(name: str, x: jax.Array) -> None:
      if name == "mixed_6e" and self.use_aux_heads:
        heads.auxiliary(self, "aux", x, self.num_classes, settings, train)

    x = apply_table(self, self.dialect.table(), settings, x, train, auxiliary_head)
    return heads.classify(x, self.num_classes, self.dropout_rate, settings, train)


NETWORK = InceptionV3
