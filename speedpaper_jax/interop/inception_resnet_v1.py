"""Inception-ResNet-v1 in facenet-pytorch and in pytorchcv."""

from collections.abc import Mapping

from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.interop import pytorchcv
from speedpaper_jax.interop.names import Names, convolutions_of, stages_of
from speedpaper_jax.models.blocks import Branch
from speedpaper_jax.models.inception_resnet import Dialect
from speedpaper_jax.models.inception_resnet_v1 import DIALECTS

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


def blocks_of(dialect: Dialect) -> dict[str, tuple[Branch, ...]]:
  """The blocks behind the stem of either Inception-ResNet, in their order."""
  count_a, count_b, count_c = dialect.counts
  return {
    **{f"block_a_{i}": dialect.block_a for i in range(1, count_a + 1)},
    "reduction_a": dialect.reduction_a,
    **{f"block_b_{i}": dialect.block_b for i in range(1, count_b + 1)},
    "reduction_b": dialect.reduction_b,
    **{f"block_c_{i}": dialect.block_c for i in range(1, count_c + 1)},
    "block_c_last": dialect.block_c,
  }


def pytorchcv_blocks(dialect: Dialect) -> dict[str, tuple[str, Mapping[str, str]]]:
  """What `convolutions_of` takes, of either Inception-ResNet in pytorchcv; without the stem."""
  blocks: dict[str, tuple[str, Mapping[str, str]]] = {}
  stage, unit = 1, 0
  for name, branches in blocks_of(dialect).items():
    # A stage of theirs begins with the block that halves the maps.
    stage, unit = (stage + 1, 1) if name.startswith("reduction") else (stage, unit + 1)
    single = "conv_list.conv1" if name == "reduction_a" else "conv"
    theirs = pytorchcv.convolutions(branches, single)
    blocks[name] = (f"features.stage{stage}.unit{unit}", theirs)
  return blocks


_PYTORCHCV_CONVOLUTIONS = {
  name: f"features.init_block.conv{number}" for number, name in enumerate(CONVOLUTIONS, start=1)
}
_PYTORCHCV_BLOCKS = pytorchcv_blocks(DIALECTS["facenet"])
PYTORCHCV = pytorchcv.names(
  "facenet",
  _PYTORCHCV_CONVOLUTIONS,
  _PYTORCHCV_BLOCKS,
  {
    **{f"{block}/linear": f"{_PYTORCHCV_BLOCKS[block][0]}.conv" for block in RESIDUAL_BLOCKS},
    "embedding": "output.fc1",
    "embedding_batch_norm": "output.bn",
    "logits": "output.fc2",
  },
)
IMPLEMENTATIONS = (FACENET, PYTORCHCV)
