"""The small Inception of Zhang et al., on CIFAR-10: arXiv 1611.03530, Figure 3 and Table 1."""

import flax.linen as nn
import jax

from speedpaper_jax.models import heads
from speedpaper_jax.models.blocks import Branch, Conv, Part, Pool, apply_table, branch
from speedpaper_jax.models.dialect import SLIM_BATCH_NORM, CommonDialect
from speedpaper_jax.models.layers import LayerSettings, network_input


def inception(conv_1x1: int, conv_3x3: int) -> tuple[Branch, ...]:
  """An Inception module, without reductions and without a pool."""
  return (branch("conv_1x1", Conv(conv_1x1)), branch("conv_3x3", Conv(conv_3x3, 3)))


def downsample(conv_3x3: int) -> tuple[Branch, ...]:
  """A Downsample module."""
  return (
    branch("conv_3x3", Conv(conv_3x3, 3, strides=2)),
    branch("pool", Pool("max", strides=2)),
  )


FIGURE_3: tuple[tuple[str, Part], ...] = (
  ("conv1", Conv(96, 3)),
  ("inception_1a", inception(32, 32)),
  ("inception_1b", inception(32, 48)),
  ("downsample_1", downsample(80)),  # 28 → 14
  ("inception_2a", inception(112, 48)),
  ("inception_2b", inception(96, 64)),
  ("inception_2c", inception(80, 80)),
  ("inception_2d", inception(48, 96)),
  ("downsample_2", downsample(96)),  # 14 → 7
  ("inception_3a", inception(176, 160)),
  ("inception_3b", inception(176, 160)),
)


# Table 1 counts 1,649,402 parameters, with batch normalization and without it: one value beside the
# kernels for each filter. Without batch normalization that is a bias; with it we take β alone, as
# TF-slim does before a ReLU. γ alone, or a bias before a normalization without either, would be as
# many.
DIALECTS = {"paper": CommonDialect(SLIM_BATCH_NORM)}


class SmallInception(nn.Module):
  """Figure 3, read from top to bottom.

  All padding is TensorFlow's "SAME", without which the mean would not be over 7×7.

  Attributes:
    num_classes: width of the softmax layer; 0 for pooled features [N, 336] instead of logits.
    settings: what all layers have in common.
    dialect: whose implementation to match.
    dropout_rate: before the softmax layer; the paper has none.
  """

  num_classes: int = 1000
  settings: LayerSettings = LayerSettings(SLIM_BATCH_NORM)
  dialect: CommonDialect = DIALECTS["paper"]
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: [N, H, W, channels], normalised; 28×28 in the paper, and at 4×4 the last maps are 1×1.
      train: whether to use the batch's statistics and dropout (which needs a "dropout" key).

    Returns:
      logits: [N, num_classes], at least float32.
    """
    settings = self.dialect.apply_to(self.settings)
    x = network_input(images, settings)
    x = apply_table(self, FIGURE_3, settings, x, train)
    return heads.classify(x, self.num_classes, self.dropout_rate, settings, train)


NETWORK = SmallInception
