"""Inception-ResNet-v1 in facenet-pytorch."""

from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.interop.names import Names, convolutions_of, stages_of

CONVOLUTIONS = {
  "conv_1a_3x3": "conv2d_1a",
  "conv_2a_3x3": "conv2d_2a",
  "conv_2b_3x3": "conv2d_2b",
  "conv_3b_1x1": "conv2d_3b",
  "conv_4a_3x3": "conv2d_4a",
  "conv_4b_3x3": "conv2d_4b",
}
BLOCK_A = {
  "conv_1x1": "branch0",
  "conv_3x3_1": "branch1.0",
  "conv_3x3_2": "branch1.1",
  "double_3x3_1": "branch2.0",
  "double_3x3_2": "branch2.1",
  "double_3x3_3": "branch2.2",
}
REDUCTION_A = {
  "conv_3x3": "branch0",
  "double_3x3_1": "branch1.0",
  "double_3x3_2": "branch1.1",
  "double_3x3_3": "branch1.2",
}
BLOCK_B = {
  "conv_1x1": "branch0",
  "conv_7x7_1": "branch1.0",
  "conv_7x7_2": "branch1.1",
  "conv_7x7_3": "branch1.2",
}
REDUCTION_B = {
  "conv_3x3_first_1": "branch0.0",
  "conv_3x3_first_2": "branch0.1",
  "conv_3x3_second_1": "branch1.0",
  "conv_3x3_second_2": "branch1.1",
  "double_3x3_1": "branch2.0",
  "double_3x3_2": "branch2.1",
  "double_3x3_3": "branch2.2",
}
BLOCK_C = {
  "conv_1x1": "branch0",
  "conv_3x3_1": "branch1.0",
  "conv_3x3_2": "branch1.1",
  "conv_3x3_3": "branch1.2",
}
RESIDUAL_BLOCKS = {
  **{f"block_a_{i}": (f"repeat_1.{i - 1}", BLOCK_A) for i in range(1, 6)},
  **{f"block_b_{i}": (f"repeat_2.{i - 1}", BLOCK_B) for i in range(1, 11)},
  **{f"block_c_{i}": (f"repeat_3.{i - 1}", BLOCK_C) for i in range(1, 6)},
  "block_c_last": ("block8", BLOCK_C),
}
BLOCKS = {
  **RESIDUAL_BLOCKS,
  "reduction_a": ("mixed_6a", REDUCTION_A),
  "reduction_b": ("mixed_7a", REDUCTION_B),
}

FACENET = Names(
  source="facenet",
  dialect="facenet",
  image_size=160,
  normalization=Normalization("RGB", (127.5, 127.5, 127.5), (128.0, 128.0, 128.0)),
  central_fraction=1.0,  # faces come cropped
  interpolation="bilinear",
  blocks={**CONVOLUTIONS, **convolutions_of(BLOCKS)},
  layers={
    **{f"{block}/linear": f"{theirs}.conv2d" for block, (theirs, _) in RESIDUAL_BLOCKS.items()},
    "embedding": "last_linear",
    "embedding_batch_norm": "last_bn",
    "logits": "logits",
  },
  stages=stages_of(CONVOLUTIONS, BLOCKS),
)
IMPLEMENTATIONS = (FACENET,)
