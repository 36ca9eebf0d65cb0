"""GoogLeNet in torchvision."""

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop.names import Names, convolutions_of, stages_of
from speedpaper_jax.models.googlenet import TABLE_1

CONVOLUTIONS = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
INCEPTION_MODULE = {
  "conv_1x1": "branch1",
  "conv_3x3_reduce": "branch2.0",
  "conv_3x3": "branch2.1",
  "conv_5x5_reduce": "branch3.0",
  "conv_5x5": "branch3.1",
  "pool_proj": "branch4.1",
}
MODULES = {f"inception_{row.name}": (f"inception{row.name}", INCEPTION_MODULE) for row in TABLE_1}

TORCHVISION = Names(
  source="torchvision",
  dialect="torchvision",
  image_size=224,
  # Called with ImageNet's normalization, it turns that into [-1, 1] inside.
  normalization=DEFAULT,
  central_fraction=0.875,
  interpolation="bilinear",
  blocks={
    **CONVOLUTIONS,
    **convolutions_of(MODULES),
    "aux1/reduce": "aux1.conv",
    "aux2/reduce": "aux2.conv",
  },
  layers={
    "aux1/fully_connected": "aux1.fc1",
    "aux1/logits": "aux1.fc2",
    "aux2/fully_connected": "aux2.fc1",
    "aux2/logits": "aux2.fc2",
    "logits": "fc",
  },
  stages=stages_of(CONVOLUTIONS, MODULES),
  aux={"aux1": "aux1.", "aux2": "aux2."},
)
IMPLEMENTATIONS = (TORCHVISION,)
