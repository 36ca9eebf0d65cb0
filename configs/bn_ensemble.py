"""Figure 4 of the Batch Normalization paper: an ensemble of six BN-x30 networks.

  python -m speedpaper_jax.main --config=configs/bn_ensemble.py
  python -m speedpaper_jax.main --config=configs/bn_ensemble.py:data=mnist

Section 4.2.3 modifies each of the six by some of these: larger initial weights, dropout of 5 % or
10 %, and batch normalization of each activation by itself, not of each feature map, in the last
hidden layers. Which has which, and how much larger the weights are, it does not say; that, and
seeds of their own, are ours. Each is trained at BN-x30's own rate, without a search.

How far is the mean of their probabilities better than each of them, and how does the error fall
with their number? `data` is digits (embedded, the default), mnist, fashion_mnist, cifar10,
cifar100, imagenet2012 or folder (`--config.base.data.dir` names it). Except for ImageNet's, images
are of 48 pixels: at 32 the last maps have one position, where both kinds of batch normalization are
the same. The members stay in runs/ of the directory, for `python -m speedpaper_jax.evaluate`.
Evaluation is of one crop; the paper's is of 144.

7 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import (
  DATA_SETS,
  VARIANTS,
  choose_data_set,
  parse_arguments,
  variant_config,
)
from speedpaper_jax.experiments import ensemble, sweep

# Ours: the paper has such modifications, and does not say which network has which.
LARGER_WEIGHTS = {"model.initial_scale": 2.0}
DROPOUT_5, DROPOUT_10 = {"model.dropout_rate": 0.05}, {"model.dropout_rate": 0.1}
PER_ACTIVATION = {"batch_norm.per_activation": "inception_5a, inception_5b"}
MEMBERS = {
  "larger_weights": LARGER_WEIGHTS,
  "dropout_5": DROPOUT_5,
  "dropout_10": DROPOUT_10,
  "per_activation": PER_ACTIVATION,
  "larger_weights_dropout_5": LARGER_WEIGHTS | DROPOUT_5,
  "per_activation_dropout_10": PER_ACTIVATION | DROPOUT_10,
}

IMAGE_SIZE = 48
# Short, so that there are errors left for an ensemble to mend.
EPOCHS: dict[str, float] = {
  "digits": 3,
  "mnist": 0.3,
  "fashion_mnist": 0.5,
  "cifar10": 2,
  "cifar100": 4,
  "folder": 10,
}


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the six networks on one data set."""
  data = parse_arguments(arguments, data=list(DATA_SETS))["data"]
  epochs = EPOCHS.get(data)  # on ImageNet the paper's
  base = variant_config(VARIANTS["bn_x30"], data, epochs)
  if epochs is not None:
    choose_data_set(base, data, IMAGE_SIZE)
    if data not in ("digits", "folder"):
      base.data.eval_split = "test[:2000]"
    # Algorithm 2: the moving averages lag behind in a run as short as this.
    base.batch_norm.inference = "population"
    base.batch_norm.population_batches = 8
    base.eval_every = base.log_every = f"{epochs / 4:g} epochs"
    base.checkpoint_every = "0 steps"  # a run takes a minute or two
  base.keep_best = False  # the last one is the member

  config = ensemble.config_of(base)
  for seed, (name, changes) in enumerate(MEMBERS.items()):
    member = base.copy_and_resolve_references()
    member.update_from_flattened_dict(changes)
    member.seed = seed
    config.members[name] = sweep.changes(base, member)
  return config
