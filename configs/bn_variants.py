"""Figures 2 and 3 of the Batch Normalization paper: BN-Inception's five networks, and two controls.

  python -m speedpaper_jax.main --config=configs/bn_variants.py
  python -m speedpaper_jax.main --config=configs/bn_variants.py:data=mnist --config.seeds="(0,1,2)"

How many steps does each network take to the best accuracy of the one without batch normalization?
The controls are that network at five times its rate, and with sigmoids. Each of the seven has the
same search: it is trained at a third of the paper's rate, at that rate and at three times that
rate, and the best counts. `data` is digits (embedded, the default), mnist, fashion_mnist, cifar10,
cifar100, imagenet2012 or folder (`--config.base.data.dir` names it).

12 minutes on two CPU cores.
"""

import dataclasses

import ml_collections

from speedpaper_jax.config import DATA_SETS, VARIANTS, parse_arguments, variant_config
from speedpaper_jax.experiments import arms, sweep

ARMS = {
  **VARIANTS,
  # Section 4.2.2: "parameters reach machine infinity" and "never above chance".
  "inception_x5": dataclasses.replace(VARIANTS["inception"], learning_rate=0.0075),
  "inception_sigmoid": dataclasses.replace(VARIANTS["inception"], activation="sigmoid"),
}
BASELINE = "inception"

# Long enough for the baseline to come near the accuracy it has after a run of the usual length.
EPOCHS: dict[str, float] = {
  "digits": 2.5,
  "mnist": 0.32,
  "fashion_mnist": 1,
  "cifar10": 4,
  "cifar100": 8,
  "folder": 6,
}


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the comparison on one data set."""
  data = parse_arguments(arguments, data=list(DATA_SETS))["data"]

  def config_of(arm: str) -> ml_collections.ConfigDict:
    epochs = EPOCHS.get(data)  # on ImageNet the paper's
    config = variant_config(ARMS[arm], data, epochs)
    if epochs is not None:
      config.data.image_size = 32  # the least that the networks take, because there are many runs
      config.data.augmentation.shift = round(DATA_SETS[data].shift * 32)
      if data != "digits" and data != "folder":
        config.data.eval_split = "test[:1000]"
      config.eval_every = f"{epochs / (10 if data == 'digits' else 20):g} epochs"
      # Algorithm 2: the moving averages lag behind in a run as short as this.
      config.batch_norm.inference = "population"
      config.batch_norm.population_batches = 8
      config.log_every = config.eval_every
      config.checkpoint_every = "0 steps"  # a run takes a minute or two
    config.expected_curve = ""  # each is trained at other rates, too
    config.decay_batch_size = 0  # all batches are of one size
    config.keep_best = False  # the networks are not the result
    return config

  base = config_of(BASELINE)
  config = arms.config_of(base)
  config.experiment = "bn_variants"
  config.baseline = BASELINE
  config.arms = {arm: sweep.changes(base, config_of(arm)) for arm in ARMS}
  config.rate_factors = (1 / 3, 1.0, 3.0)
  return config
