r"""Inception-ResNet-v2, of the paper on the impact of residual connections on learning.

  python -m speedpaper_jax.main --config=configs/inception_resnet_v2.py
  python -m speedpaper_jax.main --config=configs/inception_resnet_v2.py:data=mnist
  python -m speedpaper_jax.main \
    --config=configs/inception_resnet_v2.py:data=imagenet2012,recipe=modern

`data` is digits (embedded, the default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012
or folder (`--config.data.dir` names it).

The first command reached 99.15 % of the held-out digits, after 7 minutes on two CPU cores.

`recipe` is how it is trained on imagenet2012: paper (the default): batches of 256, 0.045 × 0.94
every 2 epochs, 160 epochs, 80.1 %; authors: that of their Inception-v3 on 32 replicas of 32 images;
nobody published its result; modern: GluonCV's, batches of 1,024, a cosine over 200 epochs, label
smoothing and mixup, 80.6 %. docs/recipes.md says where each number is from, and what is expected
after each epoch.

What the paper leaves open and we chose is marked "ours".
"""

import ml_collections

from speedpaper_jax.config import (
  DATA_SETS,
  RECIPE_NAMES,
  later_network_config,
  parse_arguments,
  with_small_epsilon,
)


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of Inception-ResNet-v2 on one data set."""
  chosen = parse_arguments(arguments, data=list(DATA_SETS), recipe=list(RECIPE_NAMES))
  config = later_network_config("inception_resnet_v2", chosen["data"], chosen["recipe"])
  config.model.dialect = "paper"
  return config if chosen["data"] == "imagenet2012" else with_small_epsilon(config)
