"""Inception-ResNet-v2 in timm, pretrainedmodels, pytorchcv and Keras.

The first two differ in the softmax layer's name.
"""

import dataclasses

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop import keras, pytorchcv
from speedpaper_jax.interop.inception_resnet_v1 import (
  BLOCK_A,
  BLOCK_B,
  BLOCK_C,
  REDUCTION_A,
  REDUCTION_B,
  blocks_of,
  pytorchcv_blocks,
)
from speedpaper_jax.interop.names import Names, Tap, convolutions_of, stages_of
from speedpaper_jax.models import inception_resnet_v2

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

_PYTORCHCV_CONVOLUTIONS = {
  **{
    name: f"features.init_block.conv{number}"
    for number, name in enumerate(CONVOLUTIONS, start=1)
    if name != "conv_last"
  },
  "conv_last": "features.final_conv",
}
_PYTORCHCV_BLOCKS = {
  "mixed_5b": (
    "features.init_block.block",
    pytorchcv.convolutions(inception_resnet_v2.MIXED_5B),
  ),
  **pytorchcv_blocks(inception_resnet_v2.DIALECTS["timm"]),
}
PYTORCHCV = pytorchcv.names(
  "timm",
  _PYTORCHCV_CONVOLUTIONS,
  _PYTORCHCV_BLOCKS,
  {
    **{f"{block}/linear": f"{_PYTORCHCV_BLOCKS[block][0]}.conv" for block in RESIDUAL_BLOCKS},
    "logits": "output.fc",
  },
)

_SLIM = inception_resnet_v2.DIALECTS["slim"]
# Their numbers of blocks, which residual ones alone have.
_KERAS_RESIDUAL = {
  block: f"block{size}_{number}"
  for size, letter in ((35, "a"), (17, "b"), (8, "c"))
  for number, block in enumerate(
    (block for block in RESIDUAL_BLOCKS if block.startswith(f"block_{letter}_")), start=1
  )
}
KERAS = keras.names(
  keras.numbered(keras.convolutions((*_SLIM.stem, *blocks_of(_SLIM).items()))),
  {
    **{f"{block}/linear": f"{theirs}_conv" for block, theirs in _KERAS_RESIDUAL.items()},
    "conv_last/conv": "conv_7b",
    "conv_last/batch_norm": "conv_7b_bn",
    "logits": "predictions",
  },
  {
    "mixed_5b": Tap("mixed_5b"),
    "reduction_a": Tap("mixed_6a"),
    "reduction_b": Tap("mixed_7a"),
    "conv_last": Tap("conv_7b_ac"),
    **{block: Tap(f"{theirs}_ac") for block, theirs in _KERAS_RESIDUAL.items()},
    # It has no activation; what precedes one elsewhere is its output.
    "block_c_last": Tap(f"custom_scale_layer_{len(_KERAS_RESIDUAL)}"),
  },
)
IMPLEMENTATIONS = (TIMM, PRETRAINEDMODELS, PYTORCHCV, KERAS)
