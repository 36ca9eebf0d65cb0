r"""Pretrained against from scratch: few images, and weights that have learned from others.

  python -m speedpaper_jax.main --config=configs/transfer.py --config.seeds="(0,1,2)"
  python -m speedpaper_jax.main --config.source.data.dir=FOLDER --config.base.data.dir=ANOTHER \
    --config=configs/transfer.py:source=folder,target=folder

BN-Inception is trained on `source`, and then on a small part of `target`: from those weights with
all layers free, with the lower half frozen or with all but the softmax layer frozen, and from
scratch. Which is best, and how soon is each as good as from scratch? Each of the four has the same
search: it is trained at a third of its rate, at its rate and at three times that, and the best
counts. Where the classes of both have the same names, as the digits of MNIST and of `digits`, the
softmax layer is taken over, too.

`source` is mnist (the default), digits, fashion_mnist, cifar10, cifar100 or folder, and `target` is
digits (embedded, the default) or one of the others. `--config.source.data.dir` and
`--config.base.data.dir` name folders.

6 minutes on two CPU cores; with three seeds 9.
"""

import dataclasses

import ml_collections

from speedpaper_jax.config import VARIANTS, choose_data_set, parse_arguments, variant_config
from speedpaper_jax.experiments import arms


@dataclasses.dataclass(frozen=True)
class Lengths:
  """How long is trained on a data set.

  Attributes:
    source_epochs: of the source network.
    train_split: the few images that a target has.
    epochs: over those, of each arm.
  """

  source_epochs: float
  train_split: str
  epochs: float


LENGTHS = {
  "mnist": Lengths(0.4, "train[:1%]", 4),
  "digits": Lengths(12, "train[:25%]", 6),
  "fashion_mnist": Lengths(1, "train[:1%]", 4),
  "cifar10": Lengths(4, "train[:2%]", 6),
  "cifar100": Lengths(8, "train[:10%]", 4),
  "folder": Lengths(20, "train[:20%]", 10),
}

LOWER_HALF = "conv*, inception_3*"


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the comparison on one target, with weights from one source."""
  chosen = parse_arguments(
    arguments,
    source=list(LENGTHS),
    target=["digits", *(name for name in LENGTHS if name != "digits")],
  )
  # One size for both, so that a layer sees maps of the size that it has learned on; 32 is the least
  # that the network takes.
  size = 64 if "folder" in chosen.values() else 32

  def config_of(data: str, epochs: float) -> ml_collections.ConfigDict:
    config = variant_config(VARIANTS["bn_x5"], data, epochs)
    choose_data_set(config, data, size)
    if data == "folder":
      config.data.eval_split = "validation"  # a folder's test/ is for the end
    elif data != "digits":
      config.data.eval_split = "test[:1000]"
    config.checkpoint_every = f"{epochs / 4:g} epochs"
    config.decay_batch_size = 0  # all batches are of one size
    config.keep_best = False  # the networks are not the result
    return config

  source = config_of(chosen["source"], LENGTHS[chosen["source"]].source_epochs)
  source.batch_norm.decay = 0.95  # the moving averages of a run as short as this
  source.eval_every = source.checkpoint_every

  target = LENGTHS[chosen["target"]]
  base = config_of(chosen["target"], target.epochs)
  base.data.train_split = target.train_split
  if chosen["target"] == "folder":
    base.data.eval_split = "train[70%:]"  # a small folder's tenth is too few to tell arms apart
  base.optimizer.learning_rate = 0.005
  base.optimizer.schedule.name = "constant"  # steps to an accuracy depend on no schedule
  # Algorithm 2: from scratch the moving averages lag behind in a run as short as this. What is
  # frozen keeps the source network's.
  base.batch_norm.inference = "population"
  base.batch_norm.population_batches = 8
  base.eval_every = base.log_every = f"{target.epochs / 12:g} epochs"
  base.checkpoint_every = "0 steps"  # a run takes a minute

  config = arms.config_of(base)
  config.experiment = "transfer"
  config.source = source
  config.arms.scratch = ml_collections.ConfigDict()
  for arm, frozen in {"free": "", "half_frozen": LOWER_HALF, "frozen": "trunk"}.items():
    # "source" stands for the directory of the source network.
    config.arms[arm] = {"init_from": "source", "freeze": frozen}
  # A softmax layer alone bears more than a network.
  config.arms.frozen.optimizer = {"learning_rate": 6 * base.optimizer.learning_rate}
  config.rate_factors = (1 / 3, 1.0, 3.0)
  return config
