"""Figures 21 to 26 of the paper on residual connections: do they speed the training up?

  python -m speedpaper_jax.main --config=configs/residual_speedup.py
  python -m speedpaper_jax.main --config=configs/residual_speedup.py:data=mnist

Inception-v3 against Inception-ResNet-v1, and Inception-v4 against Inception-ResNet-v2, at about the
same cost: how many epochs does each take to an error that both of a pair reach? All four have one
recipe and the same search: each is trained at a third of the recipe's rate, at that rate and at
three times that rate, and the best counts, with three seeds. `data` is digits (embedded, the
default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012 or folder (`--config.base.data.dir`
names it). On all but ImageNet the networks have a quarter of their filters and see 75 pixels, the
least that they take; `--config.base.model.width=1` and `--config.base.data.image_size=299` are the
paper's. On ImageNet the recipe is the paper's, at its own rate and with one seed.

35 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import DATA_SETS, later_network_config, parse_arguments, shorten
from speedpaper_jax.experiments import arms, sweep
from speedpaper_jax.papers.residual_learning import PAIRS

NETWORKS = [name for pair in PAIRS for name in pair]
BASELINE = NETWORKS[0]

# On all but ImageNet, long enough for the error to be almost constant at the end.
EPOCHS = {
  "digits": 12,
  "mnist": 0.3,
  "fashion_mnist": 0.5,
  "cifar10": 1,
  "cifar100": 2,
  "folder": 6,
}
EVALUATIONS = 24  # of a run


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the comparison on one data set."""
  data = parse_arguments(arguments, data=list(DATA_SETS))["data"]

  def config_of(network: str) -> ml_collections.ConfigDict:
    config = later_network_config(network, data, "paper")
    config.model.dialect = "slim" if network == "inception_v3" else "paper"
    config.optimizer.clip_norm = 0.0  # of Inception-v3's own paper alone
    if data != "imagenet2012":
      shorten(config, EPOCHS[data], width=0.25)
      config.eval_every = config.log_every = f"{EPOCHS[data] / EVALUATIONS:g} epochs"
      if data not in ("digits", "folder"):
        config.data.eval_split = "test[:1000]"
    elif network == "inception_v3":
      config.duration = "200 epochs"  # Figure 21; its own paper has half as many
    config.keep_best = False  # the networks are not the result
    return config

  base = config_of(BASELINE)
  config = arms.config_of(base)
  config.experiment = "residual_speedup"
  config.arms = {name: sweep.changes(base, config_of(name)) for name in NETWORKS}
  # In the place of an end that is flat and noisy, half a point above the higher one's lowest error.
  config.margin = 0.005
  if data != "imagenet2012":
    config.rate_factors = (1 / 3, 1.0, 3.0)
    config.seeds = (0, 1, 2)
  return config
