"""Inception-v3, of the paper on rethinking the Inception architecture.

  python -m speedpaper_jax.main --config=configs/inception_v3.py
  python -m speedpaper_jax.main --config=configs/inception_v3.py:data=mnist

`data` is digits (embedded, the default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012
or folder (`--config.data.dir` names it).

The first command reached 99.15 % of the held-out digits, after 5 minutes on two CPU cores.

The recipe, of four networks, is in speedpaper_jax/config/rmsprop_recipe.py. What the paper
leaves open and we chose is marked "ours".
"""

import ml_collections

from speedpaper_jax.config import DATA_SETS, parse_arguments, rmsprop_config

PAPER_EPOCHS = 100  # section 8


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of Inception-v3 on one data set."""
  chosen = parse_arguments(arguments, data=list(DATA_SETS))
  config = rmsprop_config("inception_v3", chosen["data"], PAPER_EPOCHS)
  config.model.dialect = "slim"  # the authors' code: the paper leaves the filters of the blocks out
  config.model.aux_heads = True
  config.aux_weight = 0.4  # of the authors' code; the paper gives no value
  config.label_smoothing = 0.1  # section 7
  # Section 8. Ours: none on small images, whose first gradients are a hundred times as long.
  config.optimizer.clip_norm = 2.0 if chosen["data"] == "imagenet2012" else 0.0
  return config
