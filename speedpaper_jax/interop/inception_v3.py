"""Inception-v3 in timm, torchvision and pytorch-fid, which share their names; pytorchcv, Keras."""

import dataclasses

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop import keras, pytorchcv
from speedpaper_jax.interop.names import Names, Tap, convolutions_of, stages_of
from speedpaper_jax.models.blocks import Branch
from speedpaper_jax.models.inception_v3 import DIALECTS

CONVOLUTIONS = {
  "conv_1a_3x3": "Conv2d_1a_3x3",
  "conv_2a_3x3": "Conv2d_2a_3x3",
  "conv_2b_3x3": "Conv2d_2b_3x3",
  "conv_3b_1x1": "Conv2d_3b_1x1",
  "conv_4a_3x3": "Conv2d_4a_3x3",
}
INCEPTION_5 = {
  "conv_1x1": "branch1x1",
  "conv_5x5_1": "branch5x5_1",
  "conv_5x5_2": "branch5x5_2",
  "double_3x3_1": "branch3x3dbl_1",
  "double_3x3_2": "branch3x3dbl_2",
  "double_3x3_3": "branch3x3dbl_3",
  "pool_proj": "branch_pool",
}
REDUCTION_6A = {
  "conv_3x3": "branch3x3",
  "double_3x3_1": "branch3x3dbl_1",
  "double_3x3_2": "branch3x3dbl_2",
  "double_3x3_3": "branch3x3dbl_3",
}
INCEPTION_6 = {
  "conv_1x1": "branch1x1",
  "conv_7x7_1": "branch7x7_1",
  "conv_7x7_2": "branch7x7_2",
  "conv_7x7_3": "branch7x7_3",
  "double_7x7_1": "branch7x7dbl_1",
  "double_7x7_2": "branch7x7dbl_2",
  "double_7x7_3": "branch7x7dbl_3",
  "double_7x7_4": "branch7x7dbl_4",
  "double_7x7_5": "branch7x7dbl_5",
  "pool_proj": "branch_pool",
}
REDUCTION_7A = {
  "conv_3x3_1": "branch3x3_1",
  "conv_3x3_2": "branch3x3_2",
  "conv_7x7_3x3_1": "branch7x7x3_1",
  "conv_7x7_3x3_2": "branch7x7x3_2",
  "conv_7x7_3x3_3": "branch7x7x3_3",
  "conv_7x7_3x3_4": "branch7x7x3_4",
}
INCEPTION_7 = {
  "conv_1x1": "branch1x1",
  "conv_3x3_1": "branch3x3_1",
  "conv_3x3_2a": "branch3x3_2a",
  "conv_3x3_2b": "branch3x3_2b",
  "double_3x3_1": "branch3x3dbl_1",
  "double_3x3_2": "branch3x3dbl_2",
  "double_3x3_3a": "branch3x3dbl_3a",
  "double_3x3_3b": "branch3x3dbl_3b",
  "pool_proj": "branch_pool",
}
BLOCKS = {
  "mixed_5b": ("Mixed_5b", INCEPTION_5),
  "mixed_5c": ("Mixed_5c", INCEPTION_5),
  "mixed_5d": ("Mixed_5d", INCEPTION_5),
  "mixed_6a": ("Mixed_6a", REDUCTION_6A),
  "mixed_6b": ("Mixed_6b", INCEPTION_6),
  "mixed_6c": ("Mixed_6c", INCEPTION_6),
  "mixed_6d": ("Mixed_6d", INCEPTION_6),
  "mixed_6e": ("Mixed_6e", INCEPTION_6),
  "mixed_7a": ("Mixed_7a", REDUCTION_7A),
  "mixed_7b": ("Mixed_7b", INCEPTION_7),
  "mixed_7c": ("Mixed_7c", INCEPTION_7),
}

TIMM = Names(
  source="timm",
  dialect="timm",
  image_size=299,
  normalization=DEFAULT,
  central_fraction=0.875,
  interpolation="bicubic",
  blocks={
    **CONVOLUTIONS,
    **convolutions_of(BLOCKS),
    "aux/reduce": "AuxLogits.conv0",
    "aux/fully_connected": "AuxLogits.conv1",
  },
  layers={"logits": "fc", "aux/logits": "AuxLogits.fc"},
  stages=stages_of(CONVOLUTIONS, BLOCKS),
  aux={"aux": "AuxLogits."},
  aux_image_size=299,
)
# Called with ImageNet's normalization, torchvision's turns that into [-1, 1] inside.
TORCHVISION = dataclasses.replace(
  TIMM,
  source="torchvision",
  dialect="torchvision",
  normalization=DEFAULT,
  central_fraction=0.874,  # 299 of 342 pixels
  interpolation="bilinear",
)
# The network that the Fréchet inception distance is computed with; it has no auxiliary head.
PYTORCH_FID = dataclasses.replace(
  TIMM,
  source="pytorch-fid",
  dialect="fid",
  central_fraction=1.0,
  resize="squash",
  interpolation="bilinear_pytorch",
  aux={},
)

_PYTORCHCV_CONVOLUTIONS = {
  name: f"features.init_block.conv{number}" for number, name in enumerate(CONVOLUTIONS, start=1)
}
_UNITS = {
  "mixed_5b": "stage1.unit1",
  "mixed_5c": "stage1.unit2",
  "mixed_5d": "stage1.unit3",
  "mixed_6a": "stage2.unit1",
  "mixed_6b": "stage2.unit2",
  "mixed_6c": "stage2.unit3",
  "mixed_6d": "stage2.unit4",
  "mixed_6e": "stage2.unit5",
  "mixed_7a": "stage3.unit1",
  "mixed_7b": "stage3.unit2",
  "mixed_7c": "stage3.unit3",
}


def _pytorchcv_block(name: str, branches: tuple[Branch, ...]) -> tuple[str, dict[str, str]]:
  single = "conv_list.conv1" if name == "mixed_6a" else "conv"
  return f"features.{_UNITS[name]}", pytorchcv.convolutions(branches, single)


_PYTORCHCV_BLOCKS = {
  name: _pytorchcv_block(name, part)
  for name, part in DIALECTS["timm"].table()
  if isinstance(part, tuple)
}
PYTORCHCV = pytorchcv.names(
  "timm",
  _PYTORCHCV_CONVOLUTIONS,
  _PYTORCHCV_BLOCKS,
  {"logits": "output.fc"},
)

KERAS = keras.names(
  keras.numbered(keras.convolutions(DIALECTS["slim"].table())),
  {"logits": "predictions"},
  {name: Tap(f"mixed{number}") for number, name in enumerate(BLOCKS)},
)
IMPLEMENTATIONS = (TIMM, TORCHVISION, PYTORCHCV, PYTORCH_FID, KERAS)
