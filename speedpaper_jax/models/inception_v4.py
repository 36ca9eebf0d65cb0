"""Inception-v4 (arXiv 1602.07261), Figures 3 to 9.

The figures print no stride at the stem's last convolution, no window at pools, and the same 1×7
twice in a branch of Figure 5; output sizes and the authors' code leave one reading of each.
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
  apply_table,
  branch,
  fork,
  repeat,
)
from speedpaper_jax.models.dialect import TORCH_BATCH_NORM, CommonDialect
from speedpaper_jax.models.layers import LayerSettings, network_input

Block = tuple[Branch, ...]


def stem(first: tuple[int, int], second: tuple[int, int]) -> tuple[tuple[str, Part], ...]:
  """Figure 3, 299×299 → 35×35; `first` and `second` are the windows of the long branch."""
  return (
    ("conv_1a_3x3", Conv(32, 3, strides=2, padding="VALID")),  # 299 → 149
    ("conv_2a_3x3", Conv(32, 3, padding="VALID")),  # 149 → 147
    ("conv_2b_3x3", Conv(64, 3)),
    (
      "mixed_3a",  # 147 → 73
      (branch("pool", MAX_POOL_V), branch("conv_3x3", Conv(96, 3, strides=2, padding="VALID"))),
    ),
    (
      "mixed_4a",  # 73 → 71
      (
        branch("conv_3x3", Conv(64), Conv(96, 3, padding="VALID")),
        branch(
          "conv_7x7_3x3", Conv(64), Conv(64, first), Conv(64, second), Conv(96, 3, padding="VALID")
        ),
      ),
    ),
    (
      "mixed_5a",  # 71 → 35
      (branch("conv_3x3", Conv(192, 3, strides=2, padding="VALID")), branch("pool", MAX_POOL_V)),
    ),
  )


INCEPTION_A = (  # Figure 4, at 35×35
  branch("conv_1x1", Conv(96)),
  branch("conv_3x3", Conv(64), Conv(96, 3)),
  branch("double_3x3", Conv(64), Conv(96, 3), Conv(96, 3)),
  branch("pool_proj", AVG_POOL, Conv(96)),
)


def reduction_a(k: int, l: int, m: int, n: int) -> Block:  # noqa: E741 - the paper's letter
  """Figure 7 with the filters of Table 1, 35×35 → 17×17."""
  return (
    branch("conv_3x3", Conv(n, 3, strides=2, padding="VALID")),
    branch("double_3x3", Conv(k), Conv(l, 3), Conv(m, 3, strides=2, padding="VALID")),
    branch("pool", MAX_POOL_V),
  )


def inception_b(first: tuple[int, int], second: tuple[int, int]) -> Block:
  """Figure 5, at 17×17; `first` and `second` alternate in the long branch."""
  return (
    branch("conv_1x1", Conv(384)),
    branch("conv_7x7", Conv(192), Conv(224, (1, 7)), Conv(256, (7, 1))),
    branch(
      "double_7x7",
      Conv(192),
      Conv(192, first),
      Conv(224, second),
      Conv(224, first),
      Conv(256, second),
    ),
    branch("pool_proj", AVG_POOL, Conv(128)),
  )


REDUCTION_B = (  # Figure 8, 17×17 → 8×8
  branch("conv_3x3", Conv(192), Conv(192, 3, strides=2, padding="VALID")),
  branch(
    "conv_7x7_3x3",
    Conv(256),
    Conv(256, (1, 7)),
    Conv(320, (7, 1)),
    Conv(320, 3, strides=2, padding="VALID"),
  ),
  branch("pool", MAX_POOL_V),
)


def inception_c(first: tuple[int, int], second: tuple[int, int]) -> Block:
  """Figure 6, at 8×8; `first` and `second` are the windows in front of the long branch's fork."""
  return (
    branch("conv_1x1", Conv(256)),
    branch("conv_3x3", Conv(384), fork(Conv(256, (1, 3)), Conv(256, (3, 1)))),
    branch(
      "double_3x3",
      Conv(384),
      Conv(448, first),
      Conv(512, second),
      fork(Conv(256, (1, 3)), Conv(256, (3, 1))),
    ),
    branch("pool_proj", AVG_POOL, Conv(256)),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect(CommonDialect):
  """What implementations of Inception-v4 differ in: the order of some 1×n and n×1 convolutions.

  Attributes:
    stem: Figure 3.
    inception_b: Figure 5.
    inception_c: Figure 6.
  """

  stem: tuple[tuple[str, Part], ...]
  inception_b: Block
  inception_c: Block

  def table(self) -> tuple[tuple[str, Part], ...]:
    """Figure 9, without its last three rows."""
    return (
      *self.stem,
      *repeat("inception_a", 4, INCEPTION_A),
      ("reduction_a", reduction_a(192, 224, 256, 384)),
      *repeat("inception_b", 7, self.inception_b),
      ("reduction_b", REDUCTION_B),
      *repeat("inception_c", 3, self.inception_c),
    )


DIALECTS = {
  "paper": Dialect(
    stem=stem((7, 1), (1, 7)),
    inception_b=inception_b((1, 7), (7, 1)),
    inception_c=inception_c((1, 3), (3, 1)),
  ),
  # The order of the authors' code.
  "timm": Dialect(
    batch_norm=TORCH_BATCH_NORM,
    stem=stem((1, 7), (7, 1)),
    inception_b=inception_b((7, 1), (1, 7)),
    inception_c=inception_c((3, 1), (1, 3)),
  ),
}


class InceptionV4(nn.Module):
  """Figure 9, read from the input up.

  Attributes:
    num_classes: width of the softmax layer; 0 for pooled features [N, 1536] instead of logits.
    settings: what all layers have in common.
    dialect: whose implementation to match.
    dropout_rate: before the softmax layer; the paper keeps 0.8.
    use_aux_heads: whether the last 17×17 maps have Inception-v3's auxiliary head, as in the
      authors' code; the paper has none.
  """

  num_classes: int = 1000
  settings: LayerSettings = LayerSettings()
  dialect: Dialect = DIALECTS["paper"]
  dropout_rate: float = 0.2
  use_aux_heads: bool = False

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
      if name == "inception_b_7" and self.use_aux_heads:
        heads.auxiliary(self, "aux", x, self.num_classes, settings, train)

    x = apply_table(self, self.dialect.table(), settings, x, train, auxiliary_head)
    return heads.classify(x, self.num_classes, self.dropout_rate, settings, train)


NETWORK = InceptionV4
