"""Inception-ResNet-v1 (arXiv 1602.07261), Figures 10 to 15 and Table 1."""

import dataclasses

from speedpaper_jax.models.blocks import MAX_POOL_V, Conv, Part, branch
from speedpaper_jax.models.dialect import TORCH_BATCH_NORM
from speedpaper_jax.models.inception_resnet import Dialect, InceptionResNet
from speedpaper_jax.models.inception_v4 import reduction_a

STEM: tuple[tuple[str, Part], ...] = (  # Figure 14
  ("conv_1a_3x3", Conv(32, 3, strides=2, padding="VALID")),  # 299 → 149
  ("conv_2a_3x3", Conv(32, 3, padding="VALID")),  # 149 → 147
  ("conv_2b_3x3", Conv(64, 3)),
  ("pool_3a", MAX_POOL_V),  # 147 → 73
  ("conv_3b_1x1", Conv(80)),
  ("conv_4a_3x3", Conv(192, 3, padding="VALID")),  # 73 → 71
  ("conv_4b_3x3", Conv(256, 3, strides=2, padding="VALID")),  # 71 → 35
)

BLOCK_A = (  # Figure 10, at 35×35×256
  branch("conv_1x1", Conv(32)),
  branch("conv_3x3", Conv(32), Conv(32, 3)),
  branch("double_3x3", Conv(32), Conv(32, 3), Conv(32, 3)),
)

BLOCK_B = (  # Figure 11, at 17×17×896
  branch("conv_1x1", Conv(128)),
  branch("conv_7x7", Conv(128), Conv(128, (1, 7)), Conv(128, (7, 1))),
)

REDUCTION_B = (  # Figure 12, 17×17 → 8×8
  branch("conv_3x3_first", Conv(256), Conv(384, 3, strides=2, padding="VALID")),
  branch("conv_3x3_second", Conv(256), Conv(256, 3, strides=2, padding="VALID")),
  branch("double_3x3", Conv(256), Conv(256, 3), Conv(256, 3, strides=2, padding="VALID")),
  branch("pool", MAX_POOL_V),
)

BLOCK_C = (  # Figure 13, at 8×8×1792
  branch("conv_1x1", Conv(192)),
  branch("conv_3x3", Conv(192), Conv(192, (1, 3)), Conv(192, (3, 1))),
)

DIALECTS = {
  "paper": Dialect(
    stem=STEM,
    block_a=BLOCK_A,
    reduction_a=reduction_a(192, 192, 256, 384),
    block_b=BLOCK_B,
    reduction_b=REDUCTION_B,
    block_c=BLOCK_C,
  ),
}
# A network for faces: one more C block, and an embedding of 512 numbers in front of the classes.
DIALECTS["facenet"] = dataclasses.replace(
  DIALECTS["paper"],
  batch_norm=TORCH_BATCH_NORM,
  has_unscaled_last_block=True,
  embedding=512,
)


class InceptionResNetV1(InceptionResNet):
  """Inception-ResNet-v1; see `InceptionResNet`.

  Its pooled features are [N, 1792]; in the dialect `facenet` they are embeddings [N, 512].
  """

  dialect: Dialect = DIALECTS["paper"]


NETWORK = InceptionResNetV1
