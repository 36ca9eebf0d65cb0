"""Inception-v4 in timm and in pretrainedmodels, which have the same names, and in pytorchcv."""

import dataclasses

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop import pytorchcv
from speedpaper_jax.interop.names import Names, convolutions_of, stages_of
from speedpaper_jax.models.inception_v4 import DIALECTS

CONVOLUTIONS = {
  "conv_1a_3x3": "features.0",
  "conv_2a_3x3": "features.1",
  "conv_2b_3x3": "features.2",
}
MIXED_3A = {"conv_3x3": "conv"}
MIXED_4A = {
  "conv_3x3_1": "branch0.0",
  "conv_3x3_2": "branch0.1",
  "conv_7x7_3x3_1": "branch1.0",
  "conv_7x7_3x3_2": "branch1.1",
  "conv_7x7_3x3_3": "branch1.2",
  "conv_7x7_3x3_4": "branch1.3",
}
MIXED_5A = {"conv_3x3": "conv"}
INCEPTION_A = {
  "conv_1x1": "branch0",
  "conv_3x3_1": "branch1.0",
  "conv_3x3_2": "branch1.1",
  "double_3x3_1": "branch2.0",
  "double_3x3_2": "branch2.1",
  "double_3x3_3": "branch2.2",
  "pool_proj": "branch3.1",
}
REDUCTION_A = {
  "conv_3x3": "branch0",
  "double_3x3_1": "branch1.0",
  "double_3x3_2": "branch1.1",
  "double_3x3_3": "branch1.2",
}
INCEPTION_B = {
  "conv_1x1": "branch0",
  "conv_7x7_1": "branch1.0",
  "conv_7x7_2": "branch1.1",
  "conv_7x7_3": "branch1.2",
  "double_7x7_1": "branch2.0",
  "double_7x7_2": "branch2.1",
  "double_7x7_3": "branch2.2",
  "double_7x7_4": "branch2.3",
  "double_7x7_5": "branch2.4",
  "pool_proj": "branch3.1",
}
REDUCTION_B = {
  "conv_3x3_1": "branch0.0",
  "conv_3x3_2": "branch0.1",
  "conv_7x7_3x3_1": "branch1.0",
  "conv_7x7_3x3_2": "branch1.1",
  "conv_7x7_3x3_3": "branch1.2",
  "conv_7x7_3x3_4": "branch1.3",
}
INCEPTION_C = {
  "conv_1x1": "branch0",
  "conv_3x3_1": "branch1_0",
  "conv_3x3_2a": "branch1_1a",
  "conv_3x3_2b": "branch1_1b",
  "double_3x3_1": "branch2_0",
  "double_3x3_2": "branch2_1",
  "double_3x3_3": "branch2_2",
  "double_3x3_4a": "branch2_3a",
  "double_3x3_4b": "branch2_3b",
  "pool_proj": "branch3.1",
}
BLOCKS = {
  "mixed_3a": ("features.3", MIXED_3A),
  "mixed_4a": ("features.4", MIXED_4A),
  "mixed_5a": ("features.5", MIXED_5A),
  **{f"inception_a_{i}": (f"features.{5 + i}", INCEPTION_A) for i in range(1, 5)},
  "reduction_a": ("features.10", REDUCTION_A),
  **{f"inception_b_{i}": (f"features.{10 + i}", INCEPTION_B) for i in range(1, 8)},
  "reduction_b": ("features.18", REDUCTION_B),
  **{f"inception_c_{i}": (f"features.{18 + i}", INCEPTION_C) for i in range(1, 4)},
}

TIMM = Names(
  source="timm",
  dialect="timm",
  image_size=299,
  normalization=DEFAULT,
  central_fraction=0.875,
  interpolation="bicubic",
  blocks={**CONVOLUTIONS, **convolutions_of(BLOCKS)},
  layers={"logits": "last_linear"},
  stages=stages_of(CONVOLUTIONS, BLOCKS),
)
PRETRAINEDMODELS = dataclasses.replace(TIMM, source="pretrainedmodels", interpolation="bilinear")

_PYTORCHCV_CONVOLUTIONS = {
  name: f"features.init_block.conv{number}" for number, name in enumerate(CONVOLUTIONS, start=1)
}
_UNITS = {
  "mixed_3a": "init_block.block1",
  "mixed_4a": "init_block.block2",
  "mixed_5a": "init_block.block3",
  **{f"inception_a_{i}": f"stage1.unit{i}" for i in range(1, 5)},
  "reduction_a": "stage2.unit1",
  **{f"inception_b_{i}": f"stage2.unit{i + 1}" for i in range(1, 8)},
  "reduction_b": "stage3.unit1",
  **{f"inception_c_{i}": f"stage3.unit{i + 1}" for i in range(1, 4)},
}
_PYTORCHCV_BLOCKS = {
  name: (
    f"features.{_UNITS[name]}",
    pytorchcv.convolutions(part, "conv_list.conv1" if name == "reduction_a" else "conv"),
  )
  for name, part in DIALECTS["timm"].table()
  if isinstance(part, tuple)
}
PYTORCHCV = pytorchcv.names(
  "timm",
  _PYTORCHCV_CONVOLUTIONS,
  _PYTORCHCV_BLOCKS,
  {"logits": "output.fc"},
)
IMPLEMENTATIONS = (TIMM, PRETRAINEDMODELS, PYTORCHCV)
