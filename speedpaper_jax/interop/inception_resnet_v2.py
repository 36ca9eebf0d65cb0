"""Inception-ResNet-v2 in timm and in pretrainedmodels, which differ in the softmax layer's name."""

import dataclasses

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop.inception_resnet_v1 import (
  BLOCK_A,
  BLOCK_B,
  BLOCK_C,
  REDUCTION_A,
  REDUCTION_B,
)
from speedpaper_jax.interop.names import Names, convolutions_of, stages_of

CONVOLUTIONS = {
  "conv_1a_3x3": "conv2d_1a",
  "conv_2a_3x3": "conv2d_2a",
  "conv_2b_3x3": "conv2d_2b",
  "conv_3b_1x1": "conv2d_3b",
  "conv_4a_3x3": "conv2d_4a",
  "conv_last": "conv2d_7b",
}
MIXED_5B = {
  "conv_1x1": "branch0",
  "conv_5x5_1": "branch1.0",
  "conv_5x5_2": "branch1.1",
  "double_3x3_1": "branch2.0",
  "double_3x3_2": "branch2.1",
  "double_3x3_3": "branch2.2",
  "pool_proj": "branch3.1",
}
RESIDUAL_BLOCKS = {
  **{f"block_a_{i}": (f"repeat.{i - 1}", BLOCK_A) for i in range(1, 11)},
  **{f"block_b_{i}": (f"repeat_1.{i - 1}", BLOCK_B) for i in range(1, 21)},
  **{f"block_c_{i}": (f"repeat_2.{i - 1}", BLOCK_C) for i in range(1, 10)},
  "block_c_last": ("block8", BLOCK_C),
}
BLOCKS = {
  "mixed_5b": ("mixed_5b", MIXED_5B),
  **RESIDUAL_BLOCKS,
  "reduction_a": ("mixed_6a", REDUCTION_A),
  "reduction_b": ("mixed_7a", REDUCTION_B),
}
LINEAR = {f"{block}/linear": f"{theirs}.conv2d" for block, (theirs, _) in RESIDUAL_BLOCKS.items()}

TIMM = Names(
  source="timm",
  dialect="timm",
  image_size=299,
  normalization=DEFAULT,
  central_fraction=0.8975,
  interpolation="bicubic",
  blocks={**CONVOLUTIONS, **convolutions_of(BLOCKS)},
  layers={**LINEAR, "logits": "classif"},
  stages=stages_of(CONVOLUTIONS, BLOCKS),
)
PRETRAINEDMODELS = dataclasses.replace(
  TIMM,
  source="pretrainedmodels",
  central_fraction=0.875,
  interpolation="bilinear",
  layers={**LINEAR, "logits": "last_linear"},
)
IMPLEMENTATIONS = (TIMM, PRETRAINEDMODELS)
