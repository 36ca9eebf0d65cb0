r"""GoogLeNet, of the paper on going deeper with convolutions.

  python -m speedpaper_jax.main --config=configs/googlenet.py
  python -m speedpaper_jax.main --config=configs/googlenet.py:data=mnist
  python -m speedpaper_jax.main \
    --config=configs/googlenet.py:data=imagenet2012,recipe=modern

The network of Table 1 with its two auxiliary heads, without batch normalization. `data` is digits
(embedded, the default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012 or folder
(`--config.data.dir` names it).

The first command reached 99.15 % of the held-out digits, after 66 seconds on two CPU cores.

`recipe` is how it is trained on imagenet2012: paper (the default): batches of 32, 71.0 %; authors:
that of their Inception-v3 on 8 GPUs with 32 images each, 100 epochs; nobody published its result;
modern: GluonCV's, batches of 1,024, a cosine over 200 epochs, label smoothing and mixup, 72.8 %.
The last two are for the network with batch normalization and without auxiliary heads, as
torchvision has it. docs/recipes.md says where each number is from, and what is expected after each
epoch.

What the paper leaves open and we chose is marked "ours".
"""

import ml_collections

from speedpaper_jax.config import (
  DATA_SETS,
  RECIPE_NAMES,
  apply_recipe,
  choose_data_set,
  find_recipe,
  parse_arguments,
  train_config,
)


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of GoogLeNet on one data set."""
  chosen = parse_arguments(arguments, data=list(DATA_SETS), recipe=list(RECIPE_NAMES))
  recipe = find_recipe("googlenet", chosen["recipe"], chosen["data"])
  config = train_config()
  choose_data_set(config, chosen["data"], DATA_SETS[chosen["data"]].image_size)

  config.model.name = "googlenet"
  config.model.dropout_rate = 0.4
  if chosen["recipe"] == "paper":
    config.model.dialect = "paper"
    config.model.aux_heads = True
    config.batch_norm.enabled = False
    config.aux_weight = 0.3  # section 5
  else:  # as in the authors' later code, and in GluonCV's
    config.model.dialect = "torchvision"
  apply_recipe(config, recipe, chosen["data"])
  if chosen["data"] != "imagenet2012":
    config.optimizer.learning_rate = 0.01  # ours
  return config
