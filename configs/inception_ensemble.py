"""Table 5 of the paper on residual connections: Inception-v4 and three Inception-ResNet-v2.

  python -m speedpaper_jax.main --config=configs/inception_ensemble.py
  python -m speedpaper_jax.main --config=configs/inception_ensemble.py:data=mnist

The three differ in their seeds: of the initial weights, the order of the images, augmentation and
dropout. How far is the mean of the four networks' probabilities better than each of them, and how
does the error fall with their number? Each is trained by its own recipe, without a search. `data`
is digits (embedded, the default), mnist, fashion_mnist, cifar10, cifar100, imagenet2012 or folder
(`--config.base.data.dir` names it). Except for ImageNet's, images are of 75 pixels and networks
have half the filters. The members stay in runs/ of the directory, for `python -m
speedpaper_jax.evaluate`. Evaluation is of one crop; the paper's is of 144.

12 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import DATA_SETS, parse_arguments, rmsprop_config, with_small_epsilon
from speedpaper_jax.experiments import ensemble, sweep

MEMBERS = {
  "inception_v4": {"model.name": "inception_v4"},
  **{
    f"inception_resnet_v2_{number}": {"model.name": "inception_resnet_v2", "seed": number}
    for number in (1, 2, 3)
  },
}

PAPER_EPOCHS = 160  # Figures 23 and 24
WIDTH = 0.5
# Short, so that there are errors left for an ensemble to mend.
EPOCHS: dict[str, float] = {
  "digits": 8,
  "mnist": 0.3,
  "fashion_mnist": 0.5,
  "cifar10": 2,
  "cifar100": 4,
  "folder": 10,
}


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the four networks on one data set."""
  data = parse_arguments(arguments, data=list(DATA_SETS))["data"]
  base = rmsprop_config("inception_v4", data, PAPER_EPOCHS)
  base.model.dialect = "paper"
  base.label_smoothing = 0.1  # ours, as for Inception-v3, which the paper compares with
  if (epochs := EPOCHS.get(data)) is not None:  # on ImageNet the paper's
    with_small_epsilon(base)
    base.model.width = WIDTH
    base.duration = f"{epochs:g} epochs"
    base.optimizer.schedule.interval = f"{2 * epochs / PAPER_EPOCHS:.6g} epochs"
    if data not in ("digits", "folder"):
      base.data.eval_split = "test[:2000]"
    base.eval_every = base.log_every = f"{epochs / 4:g} epochs"
    base.checkpoint_every = "0 steps"  # a run takes a few minutes
  base.keep_best = False  # the last one is the member

  config = ensemble.config_of(base)
  for name, changes in MEMBERS.items():
    member = base.copy_and_resolve_references()
    member.update_from_flattened_dict(changes)
    config.members[name] = sweep.changes(base, member)
  return config
