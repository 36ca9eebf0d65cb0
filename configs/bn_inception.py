"""BN-Inception and the other four networks of section 4.2 of the Batch Normalization paper.

  python -m speedpaper_jax.main --config=configs/bn_inception.py
  python -m speedpaper_jax.main --config=configs/bn_inception.py:variant=bn_x30,data=mnist

`variant` is one of the networks of Figure 3: inception, bn_baseline, bn_x5, bn_x30, bn_x5_sigmoid.
The default is bn_x5, which takes the fewest steps to the accuracy of the network without BN, 2.1
million against 31 million; bn_x30 becomes more accurate in the end (74.8 % against 73.0 %), after
three times as many. `data` is digits (embedded, the default), mnist, fashion_mnist, cifar10,
cifar100, imagenet2012 or folder (`--config.data.dir` names it).

The first command reached 98.31 % of the held-out digits, after 80 seconds on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import DATA_SETS, VARIANTS, parse_arguments, variant_config


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of one network on one data set."""
  chosen = parse_arguments(arguments, variant=list(VARIANTS), data=list(DATA_SETS))
  return variant_config(VARIANTS[chosen["variant"]], chosen["data"])
