"""BN-Inception in pretrainedmodels, whose names are Caffe's."""

import itertools

from speedpaper_jax.data.normalization import Normalization
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
  conv="",
  batch_norm="_bn",
)
IMPLEMENTATIONS = (PRETRAINEDMODELS,)
