r"""Inception-v3, of the paper on rethinking the Inception architecture.

  python -m speedpaper_jax.main --config=configs/inception_v3.py
  python -m speedpaper_jax.main --config=configs/inception_v3.py:data=mnist
  python -m speedpaper_jax.main \
    --config=configs/inception_v3.py:data=imagenet2012,recipe=modern

`data` is digits (embedded, the default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012
or folder (`--config.data.dir` names it).

The first command reached 99.15 % of the held-out digits, after 5 minutes on two CPU cores.

`recipe` is how it is trained on imagenet2012: paper (the default): batches of 256, 0.045 × 0.94
every 2 epochs, 100 epochs, 78.8 %; authors: tensorflow/tpu's, batches of 1,024, 170 epochs, more
than 78.1 %; modern: GluonCV's, batches of 1,024, a cosine over 200 epochs, label smoothing and
mixup, 78.0 %. docs/recipes.md says where each number is from, and what is expected after each
epoch.

What the paper leaves open and we chose is marked "ours".
"""

import ml_collections

from speedpaper_jax.config import (
  DATA_SETS,
  RECIPE_NAMES,
  later_network_config,
  parse_arguments,
)


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of Inception-v3 on one data set."""
  chosen = parse_arguments(arguments, data=list(DATA_SETS), recipe=list(RECIPE_NAMES))
  config = later_network_config("inception_v3", chosen["data"], chosen["recipe"])
  config.model.dialect = "slim"  # the authors' code: the paper leaves the filters of the blocks out
  if chosen["recipe"] != "modern":  # GluonCV's has no auxiliary head
    config.model.aux_heads = True
    config.aux_weight = 0.4  # of the authors' code; the paper gives no value
  return config
