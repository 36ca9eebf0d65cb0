"""Inception-ResNet-v2 (arXiv 1602.07261), Figures 3 and 15 to 19 and Table 1.

The figures print 1154 and 2048 filters for the linear convolutions of B and C, whose inputs have
1152 and 2144 channels; a sum needs the inputs' numbers. The network that the authors published
under this name, `slim` and `timm`, is another one: it has Inception-v3's stem, one more mixed
block, twice as many residual blocks and a last convolution.
"""

import dataclasses

from speedpaper_jax.models.blocks import AVG_POOL, MAX_POOL_V, Conv, Part, branch
from speedpaper_jax.models.dialect import SLIM_BATCH_NORM, TORCH_BATCH_NORM
from speedpaper_jax.models.inception_resnet import Dialect, InceptionResNet
from speedpaper_jax.models.inception_v4 import reduction_a
from speedpaper_jax.models.inception_v4 import stem as inception_v4_stem

BLOCK_A = (  # Figure 16, at 35×35×384
  branch("conv_1x1", Conv(32)),
  branch("conv_3x3", Conv(32), Conv(32, 3)),
  branch("double_3x3", Conv(32), Conv(48, 3), Conv(64, 3)),
)

BLOCK_B = (  # Figure 17, at 17×17×1152
  branch("conv_1x1", Conv(192)),
  branch("conv_7x7", Conv(128), Conv(160, (1, 7)), Conv(192, (7, 1))),
)

REDUCTION_B = (  # Figure 18, 17×17 → 8×8
  branch("conv_3x3_first", Conv(256), Conv(384, 3, strides=2, padding="VALID")),
  branch("conv_3x3_second", Conv(256), Conv(288, 3, strides=2, padding="VALID")),
  branch("double_3x3", Conv(256), Conv(288, 3), Conv(320, 3, strides=2, padding="VALID")),
  branch("pool", MAX_POOL_V),
)

BLOCK_C = (  # Figure 19, at 8×8×2144
  branch("conv_1x1", Conv(192)),
  branch("conv_3x3", Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1))),
)

MIXED_5B = (  # of the authors' code, at 35×35
  branch("conv_1x1", Conv(96)),
  branch("conv_5x5", Conv(48), Conv(64, 5)),
  branch("double_3x3", Conv(64), Conv(96, 3), Conv(96, 3)),
  branch("pool_proj", AVG_POOL, Conv(64)),
)

PUBLISHED_STEM: tuple[tuple[str, Part], ...] = (  # of the authors' code
  ("conv_1a_3x3", Conv(32, 3, strides=2, padding="VALID")),  # 299 → 149
  ("conv_2a_3x3", Conv(32, 3, padding="VALID")),  # 149 → 147
  ("conv_2b_3x3", Conv(64, 3)),
  ("pool_3a", MAX_POOL_V),  # 147 → 73
  ("conv_3b_1x1", Conv(80)),
  ("conv_4a_3x3", Conv(192, 3, padding="VALID")),  # 73 → 71
  ("pool_5a", MAX_POOL_V),  # 71 → 35
  ("mixed_5b", MIXED_5B),
)

DIALECTS = {
  "paper": Dialect(
    stem=inception_v4_stem((7, 1), (1, 7)),
    block_a=BLOCK_A,
    reduction_a=reduction_a(256, 256, 384, 384),
    block_b=BLOCK_B,
    reduction_b=REDUCTION_B,
    block_c=BLOCK_C,
  ),
}
DIALECTS["timm"] = dataclasses.replace(
  DIALECTS["paper"],
  batch_norm=TORCH_BATCH_NORM,
  stem=PUBLISHED_STEM,
  counts=(10, 20, 9),
  has_unscaled_last_block=True,
  last_conv=1536,
)
DIALECTS["slim"] = dataclasses.replace(DIALECTS["timm"], batch_norm=SLIM_BATCH_NORM)


class InceptionResNetV2(InceptionResNet):
  """Inception-ResNet-v2; see `InceptionResNet`.

  Its pooled features are [N, 2144], in the dialects `timm` and `slim` [N, 1536].
  """

  dialect: Dialect = DIALECTS["paper"]


NETWORK = InceptionResNetV2
