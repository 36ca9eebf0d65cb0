"""What Inception-ResNet-v1 and -v2 have in common (arXiv 1602.07261, Figure 15).

The stem's and the blocks' filters are in the files of the two networks.
"""

import dataclasses

import flax.linen as nn
import jax

from speedpaper_jax.models import features, heads
from speedpaper_jax.models.blocks import (
  Branch,
  Conv,
  Part,
  apply_part,
  apply_table,
  concatenate_branches,
)
from speedpaper_jax.models.dialect import CommonDialect
from speedpaper_jax.models.layers import ACTIVATIONS, LayerSettings, kernel_init, network_input

Block = tuple[Branch, ...]


class ResidualBlock(nn.Module):
  """Inception-ResNet-A, -B or -C: g(x + scale · Linear1×1(branches of x)), Figures 10 to 20.

  The linear 1×1 convolution has a bias and no batch normalization: the paper has none on top of
  the summations.

  Attributes:
    branches: in front of the linear convolution.
    scale: of the residual (section 3.3): without it, networks of more than 1000 filters died.
    activation: g; None for none.
    settings: what all layers have in common.
  """

  branches: Block
  scale: float
  activation: str | None
  settings: LayerSettings

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → [N, H, W, C]."""
    linear = nn.Conv(
      x.shape[-1],
      (1, 1),
      dtype=self.settings.dtype,
      kernel_init=kernel_init,
      conv_general_dilated=self.settings.operations.conv,
      promote_dtype=self.settings.operations.promote_dtype,
      name="linear",
    )
    branches = concatenate_branches(self, self.branches, self.settings, x, train)
    x += self.scale * linear(branches).astype(x.dtype)
    return x if self.activation is None else ACTIVATIONS[self.activation](x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect(CommonDialect):
  """One of the networks that go by the names Inception-ResNet-v1 and -v2.

  Attributes:
    stem: 299×299 → 35×35.
    block_a: branches of Inception-ResNet-A, at 35×35.
    reduction_a: 35×35 → 17×17.
    block_b: branches of Inception-ResNet-B, at 17×17.
    reduction_b: 17×17 → 8×8.
    block_c: branches of Inception-ResNet-C, at 8×8.
    counts: how many of A, B and C.
    residual_scales: of A, B and C; the paper says "between 0.1 and 0.3", these are its authors'.
    has_unscaled_last_block: whether one more C without scale and activation follows.
    last_conv: filters of a 1×1 convolution before the pool; 0 for none.
    embedding: units of a linear layer with batch normalization after the pool; 0 for none.
  """

  stem: tuple[tuple[str, Part], ...]
  block_a: Block
  reduction_a: Block
  block_b: Block
  reduction_b: Block
  block_c: Block
  counts: tuple[int, int, int] = (5, 10, 5)
  residual_scales: tuple[float, float, float] = (0.17, 0.10, 0.20)
  has_unscaled_last_block: bool = False
  last_conv: int = 0
  embedding: int = 0


class InceptionResNet(nn.Module):
  """Figure 15, read from the input up.

  Attributes:
    dialect: the stem, the blocks and their counts.
    num_classes: width of the softmax layer; 0 for pooled features instead of logits.
    settings: what all layers have in common.
    dropout_rate: before the softmax layer; the paper keeps 0.8.
    use_aux_heads: whether the last 17×17 maps have Inception-v3's auxiliary head, as in the
      authors' code; the paper has none.
    residual_scales: of the blocks A, B and C; None for the dialect's.
  """

  dialect: Dialect
  num_classes: int = 1000
  settings: LayerSettings = LayerSettings()
  dropout_rate: float = 0.2
  use_aux_heads: bool = False
  residual_scales: tuple[float, float, float] | None = None

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
    dialect = self.dialect
    settings = dialect.apply_to(self.settings)
    count_a, count_b, count_c = dialect.counts
    scale_a, scale_b, scale_c = self.residual_scales or dialect.residual_scales

    def apply(name: str, part: Part, x: jax.Array) -> jax.Array:
      return features.stage(self, name, apply_part(name, part, settings, x, train))

    def residual(
      name: str, branches: Block, scale: float, x: jax.Array, activation: str | None = "relu"
    ) -> jax.Array:
      block = ResidualBlock(branches, scale, activation, settings, name=name)
      return features.stage(self, name, block(x, train=train))

    x = network_input(images, settings)
    x = apply_table(self, dialect.stem, settings, x, train)
    for i in range(1, count_a + 1):
      x = residual(f"block_a_{i}", dialect.block_a, scale_a, x)
    x = apply("reduction_a", dialect.reduction_a, x)
    for i in range(1, count_b + 1):
      x = residual(f"block_b_{i}", dialect.block_b, scale_b, x)
    if self.use_aux_heads:
      heads.auxiliary(self, "aux", x, self.num_classes, settings, train)
    x = apply("reduction_b", dialect.reduction_b, x)
    for i in range(1, count_c + 1):
      x = residual(f"block_c_{i}", dialect.block_c, scale_c, x)
    if dialect.has_unscaled_last_block:
      x = residual("block_c_last", dialect.block_c, 1.0, x, activation=None)
    if dialect.last_conv:
      x = apply("conv_last", Conv(dialect.last_conv), x)
    if dialect.embedding:
      return heads.classify_embedding(
        x, dialect.embedding, self.num_classes, self.dropout_rate, settings, train
      )
    return heads.classify(x, self.num_classes, self.dropout_rate, settings, train)
