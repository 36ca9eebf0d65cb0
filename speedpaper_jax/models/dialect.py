"""What implementations of one network differ in, as far as it is the same for all networks."""

import dataclasses

from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import LayerSettings

# TF-slim's, and what the authors trained with; the papers give no values.
SLIM_BATCH_NORM = BatchNorm(decay=0.9997, epsilon=1e-3, use_scale=False)
# γ is learned, as in the paper; the others as in TF-slim.
PAPER_BATCH_NORM = BatchNorm(decay=0.9997, epsilon=1e-3)
# timm, torchvision, facenet-pytorch: PyTorch's own decay, TensorFlow's ε.
TORCH_BATCH_NORM = BatchNorm(decay=0.9, epsilon=1e-3)


@dataclasses.dataclass(frozen=True)
class CommonDialect:
  """Whose implementation a network matches; a network's file extends it where more differs.

  Attributes:
    batch_norm: copied before each nonlinearity; None for biases instead.
    bias_before_batch_norm: see `LayerSettings`.
    count_padding: see `LayerSettings`.
  """

  batch_norm: BatchNorm | None = PAPER_BATCH_NORM
  bias_before_batch_norm: bool = False
  count_padding: bool = False

  def apply_to(self, settings: LayerSettings) -> LayerSettings:
    """`settings` with what only the dialect decides."""
    batch_norm = settings.batch_norm
    if batch_norm is not None and self.batch_norm is not None:
      batch_norm = batch_norm.copy(use_scale=self.batch_norm.use_scale)
    return dataclasses.replace(
      settings,
      batch_norm=batch_norm,
      bias_before_batch_norm=self.bias_before_batch_norm,
      count_padding=self.count_padding,
    )
