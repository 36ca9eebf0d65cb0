"""Table 5 of the paper on residual connections: Inception-v4 and three Inception-ResNet-v2.

  python -m speedpaper_jax.main --config=configs/inception_ensemble.py
  python -m speedpaper_jax.main --config=configs/inception_ensemble.py:data=mnist

The three differ in their seeds: of the initial weights, the order of the images, augmentation and
dropout. How far is the mean of the four networks' probabilities better than each of them, and how
does the error fall with their number? Each is trained by its own recipe, without a search. `data`
is digits (embedded, the default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012 or folder
(`--config.base.data.dir` names it). Except for ImageNet's, images are of 75 pixels, networks have a
quarter of the filters, and Inception-v4, which learns more slowly without residual connections, is
trained twice as long as the others: on digits all four are then about as good, as in the paper. The
members stay in runs/ of the directory, for `python -m speedpaper_jax.evaluate`. Evaluation is of
one crop; the paper's is of 144.

7 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import DATA_SETS, later_network_config, parse_arguments, shorten
from speedpaper_jax.experiments import ensemble, sweep

# Name → network and seed.
MEMBERS = {
  "inception_v4": ("inception_v4", 0),
  **{f"inception_resnet_v2_{seed}": ("inception_resnet_v2", seed) for seed in (1, 2, 3)},
}

# Of Inception-v4. Short, so that there are errors left for an ensemble to mend.
EPOCHS: dict[str, float] = {
  "digits": 12,
  "mnist": 0.3,
  "fashion_mnist": 0.5,
  "cifar10": 2,
  "cifar100": 4,
  "folder": 10,
}
# How many times as long as Inception-ResNet-v2 it is trained.
TIMES_AS_LONG = 2
EVALUATIONS = 8  # of Inception-v4's training


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the four networks on one data set."""
  data = parse_arguments(arguments, data=list(DATA_SETS))["data"]

  def config_of(network: str, seed: int) -> ml_collections.ConfigDict:
    config = later_network_config(network, data, "paper")
    config.model.dialect = "paper"
    config.seed = seed
    if data != "imagenet2012":
      times = 1 if network == "inception_v4" else TIMES_AS_LONG
      shorten(config, EPOCHS[data] / times, width=0.25)
      config.eval_every = config.log_every = f"{EPOCHS[data] / EVALUATIONS:g} epochs"
      if data not in ("digits", "folder"):
        config.data.eval_split = "test[:2000]"
    config.keep_best = False  # the last one is the member
    return config

  first, *_ = MEMBERS.values()
  base = config_of(*first)
  config = ensemble.config_of(base)
  for name, (network, seed) in MEMBERS.items():
    config.members[name] = sweep.changes(base, config_of(network, seed))
  return config
