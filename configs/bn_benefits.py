"""The advantages of BN one by one: learning rate, initial scale, dropout, L2, LRN, batch size.

  python -m speedpaper_jax.main --config=configs/bn_benefits.py:benefit=lr

`benefit` is the factor that varies, everything else being equal, without BN and with it:
lr (the default): learning rates of 1 to 100 times Inception's; init: kernels 0.1 to 10 times as
large at first; dropout: none or 40 %; l2: none or GoogLeNet's; lrn: without and with
local response normalization; batch_size: 2 to 256, for the gap between training and test.
Except for lr, every network has the same search: it is trained at Inception's rate and at five
times that, and the better counts. `data` is digits (embedded, the default), mnist, fashion_mnist,
cifar10, cifar100 or folder (`--config.base.data.dir` names it).

11 minutes on two CPU cores; init and dropout 8 each, l2 and lrn 7 each, batch_size 19.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

from speedpaper_jax.config import VARIANTS, parse_arguments, variant_config
from speedpaper_jax.experiments import arms
from speedpaper_jax.storage.learning_curves import arm_name

LEARNING_RATE = VARIANTS["inception"].learning_rate


@dataclasses.dataclass(frozen=True)
class Benefit:
  """A factor.

  Attributes:
    values: that it takes.
    changes: what a value changes in the config.
    rate_factors: the search for the learning rate.
    few_images: whether a third of the training images, for three times as many epochs, makes the
      network learn them by heart, so that there is something to regularise.
  """

  values: Sequence[float]
  changes: Callable[[float], dict[str, Any]]
  rate_factors: Sequence[float] = (1.0, 5.0)
  few_images: bool = False


BENEFITS = {
  "lr": Benefit(
    (1, 3, 10, 30, 100),
    lambda times: {"optimizer": {"learning_rate": times * LEARNING_RATE}},
    (1.0,),
  ),
  "init": Benefit((0.1, 1, 10), lambda times: {"model": {"initial_scale": float(times)}}),
  "dropout": Benefit((0.0, 0.4), lambda rate: {"model": {"dropout_rate": rate}}, few_images=True),
  "l2": Benefit((0.0, 2e-4), lambda l2: {"optimizer": {"l2": l2}}, few_images=True),
  "lrn": Benefit((0, 1), lambda on: {"model": {"local_response_norm": bool(on)}}),
  "batch_size": Benefit(
    # Statistics over the whole batch; the rate is the same for all, not in proportion to the batch.
    (2, 8, 32, 256),
    lambda rows: {
      "batch_size": rows,
      "optimizer": {"base_batch_size": rows},
      "batch_norm": {"population_batches": 512 // rows},
    },
    few_images=True,
  ),
}

EPOCHS = {
  "digits": 4,
  "mnist": 0.2,
  "fashion_mnist": 0.5,
  "cifar10": 2,
  "cifar100": 4,
  "folder": 6,
}


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of one factor on one data set."""
  chosen = parse_arguments(arguments, benefit=list(BENEFITS), data=list(EPOCHS))
  benefit, data = BENEFITS[chosen["benefit"]], chosen["data"]
  epochs = EPOCHS[data] * (3 if benefit.few_images else 1)

  base = variant_config(VARIANTS["inception"], data, epochs)
  base.model.local_response_norm = False
  base.model.dropout_rate = 0.0
  base.optimizer.l2 = 0.0
  base.batch_norm.statistics = "global"
  # Algorithm 2: the moving averages lag behind in a run as short as this.
  base.batch_norm.inference = "population"
  base.batch_norm.population_batches = 8
  base.decay_batch_size = 0  # nothing is decayed
  base.optimizer.schedule.name = "constant"
  base.data.image_size = 32  # the least that the network takes, because there are many runs
  base.data.augmentation.crop = "none"
  if benefit.few_images:
    base.data.train_split = "train[:33%]"
  if data not in ("digits", "folder"):
    base.data.eval_split = "test[:1000]"
  base.duration = f"{epochs:g} epochs"
  base.evaluate_training_images = True
  base.eval_every = base.log_every = f"{epochs / 4:g} epochs"
  base.checkpoint_every = "0 steps"  # a run takes a minute or two
  base.keep_best = False  # the networks are not the result

  config = arms.config_of(base)
  config.experiment = "bn_benefits"
  config.benefit = chosen["benefit"]
  config.factor_values = tuple(benefit.values)
  config.rate_factors = tuple(benefit.rate_factors)
  config.seeds = (0, 1, 2)
  for value in benefit.values:
    for network in ("without", "with"):
      changes = ml_collections.ConfigDict(benefit.changes(value))
      changes.update({"batch_norm": {"enabled": network == "with"}})
      config.arms[arm_name(network, value)] = changes
  return config
