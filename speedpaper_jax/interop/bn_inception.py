"""BN-Inception in pretrainedmodels, whose names are Caffe's, and in pytorchcv."""

import itertools

from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.interop import pytorchcv
from speedpaper_jax.interop.names import Names, Tap
from speedpaper_jax.models.bn_inception import FIGURE_5_AS_PRINTED

CONVOLUTIONS = {
  "conv1": "conv1_7x7_s2",
  "conv2_reduce": "conv2_3x3_reduce",
  "conv2": "conv2_3x3",
}
BRANCHES = {
  "conv_1x1": "1x1",
  "conv_3x3_reduce": "3x3_reduce",
  "conv_3x3": "3x3",
  "double_3x3_reduce": "double_3x3_reduce",
  "double_3x3_first": "double_3x3_1",
  "double_3x3_second": "double_3x3_2",
  "pool_proj": "pool_proj",
}
MODULES = [f"inception_{row.name}" for row in FIGURE_5_AS_PRINTED]

PRETRAINEDMODELS = Names(
  source="pretrainedmodels",
  dialect="pretrainedmodels",
  image_size=224,
  normalization=Normalization("BGR", (104.0, 117.0, 128.0), (1.0, 1.0, 1.0)),
  central_fraction=0.875,
  interpolation="bilinear",
  blocks={
    **CONVOLUTIONS,
    **{
      f"{module}/{ours}": f"{module}_{theirs}"
      for module in MODULES
      for ours, theirs in BRANCHES.items()
    },
  },
  layers={"logits": "last_linear"},
  stages={
    "conv1": Tap("conv1_relu_7x7"),
    "conv2_reduce": Tap("conv2_relu_3x3_reduce"),
    "conv2": Tap("conv2_relu_3x3"),
    # Its modules are no modules of PyTorch's: their outputs are what the next one's layers see.
    **{
      module: Tap(f"{following}_3x3_reduce", at_input=True)
      for module, following in itertools.pairwise(MODULES)
    },
    MODULES[-1]: Tap("global_pool", at_input=True),
  },
  conv="{}",
  batch_norm="{}_bn",
)

_PYTORCHCV_CONVOLUTIONS = {
  "conv1": "features.init_block.conv1",
  "conv2_reduce": "features.init_block.conv2.conv1",
  "conv2": "features.init_block.conv2.conv2",
}
_PYTORCHCV_BRANCHES = {
  "conv_1x1": "branches.branch1",
  "conv_3x3_reduce": "branches.branch2.conv1",
  "conv_3x3": "branches.branch2.conv2",
  "double_3x3_reduce": "branches.branch3.conv1",
  "double_3x3_first": "branches.branch3.conv2",
  "double_3x3_second": "branches.branch3.conv3",
  "pool_proj": "branches.branch4.conv",
}
# 3c and 4e have no 1×1 branch.
_PYTORCHCV_STRIDED_BRANCHES = {
  "conv_3x3_reduce": "branches.branch1.conv1",
  "conv_3x3": "branches.branch1.conv2",
  "double_3x3_reduce": "branches.branch2.conv1",
  "double_3x3_first": "branches.branch2.conv2",
  "double_3x3_second": "branches.branch2.conv3",
}
# A stage of theirs begins with the module that halves the maps.
_UNITS = {
  "3a": "stage1.unit1",
  "3b": "stage1.unit2",
  "3c": "stage2.unit1",
  "4a": "stage2.unit2",
  "4b": "stage2.unit3",
  "4c": "stage2.unit4",
  "4d": "stage2.unit5",
  "4e": "stage3.unit1",
  "5a": "stage3.unit2",
  "5b": "stage3.unit3",
}
_PYTORCHCV_BLOCKS = {
  f"inception_{row.name}": (
    f"features.{_UNITS[row.name]}",
    _PYTORCHCV_BRANCHES if row.strides == 1 else _PYTORCHCV_STRIDED_BRANCHES,
  )
  for row in FIGURE_5_AS_PRINTED
}
PYTORCHCV = pytorchcv.names(
  "pretrainedmodels",
  _PYTORCHCV_CONVOLUTIONS,
  _PYTORCHCV_BLOCKS,
  {"logits": "output"},
  image_size=224,
)
IMPLEMENTATIONS = (PRETRAINEDMODELS, PYTORCHCV)
