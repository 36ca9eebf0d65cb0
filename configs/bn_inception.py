r"""BN-Inception and the other four networks of section 4.2 of the Batch Normalization paper.

  python -m speedpaper_jax.main --config=configs/bn_inception.py
  python -m speedpaper_jax.main --config=configs/bn_inception.py:variant=bn_x30,data=mnist
  python -m speedpaper_jax.main \
    --config=configs/bn_inception.py:data=imagenet2012,recipe=modern

`variant` is one of the networks of Figure 3: inception, bn_baseline, bn_x5, bn_x30, bn_x5_sigmoid.
The default is bn_x5, which takes the fewest steps to the accuracy of the network without BN, 2.1
million against 31 million; bn_x30 becomes more accurate in the end (74.8 % against 73.0 %), after
three times as many. `data` is digits (embedded, the default), mnist, fashion_mnist, cifar10,
cifar100, imagenet2012 or folder (`--config.data.dir` names it).

The first command reached 98.31 % of the held-out digits, after 80 seconds on two CPU cores.

`recipe` is how it is trained on imagenet2012: paper (the default): batches of 32, by the variant
69.8 to 74.8 %; authors: that of their Inception-v3 on 8 GPUs with 32 images each, 100 epochs;
nobody published its result; modern: GluonCV's, batches of 1,024, a cosine over 200 epochs, label
smoothing and mixup, 74.9 %. The last two are for bn_x5's network, which is bn_x30's.
docs/recipes.md says where each number is from, and what is expected after each epoch.
"""

import ml_collections

from speedpaper_jax.config import (
  DATA_SETS,
  RECIPE_NAMES,
  VARIANTS,
  find_recipe,
  parse_arguments,
  variant_config,
)
from speedpaper_jax.errors import UserError


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of one network on one data set."""
  chosen = parse_arguments(
    arguments, variant=list(VARIANTS), data=list(DATA_SETS), recipe=list(RECIPE_NAMES)
  )
  variant = VARIANTS[chosen["variant"]]
  if chosen["recipe"] == "paper":
    return variant_config(variant, chosen["data"])
  recipe = find_recipe("bn_inception", chosen["recipe"], chosen["data"])
  if chosen["variant"] != "bn_x5":
    raise UserError(
      f"recipe={chosen['recipe']} is for variant=bn_x5, the default; leave variant="
      f"{chosen['variant']} out, which is trained by recipe=paper."
    )
  return variant_config(variant, chosen["data"], trained_by=recipe)
