"""How the five networks of section 4.2 of the Batch Normalization paper are trained.

What the paper leaves open and we chose is marked "ours".
"""

import dataclasses

import ml_collections

from speedpaper_jax.config import data_sets
from speedpaper_jax.config.data_sets import DATA_SETS
from speedpaper_jax.config.defaults import train_config


@dataclasses.dataclass(frozen=True)
class Variant:
  """A network of section 4.2, and how it was trained on ImageNet.

  Attributes:
    learning_rate: initial, section 4.2.2.
    paper_epochs: length of its curve in Figure 2, at 40,036 steps of 32 images to an epoch.
    batch_norm: whether each nonlinearity's input is normalised.
    accelerated: whether it has the changes of section 4.2.1: no dropout, no local response
      normalization, a fifth of the L2, a sixth of the decay interval, less photometric distortion.
    activation: sigmoid for the network that cannot be trained without BN.
  """

  learning_rate: float
  paper_epochs: int
  batch_norm: bool = True
  accelerated: bool = True
  activation: str = "relu"


VARIANTS = {
  "bn_x5": Variant(0.0075, 72),
  "bn_x30": Variant(0.045, 150),
  "bn_baseline": Variant(0.0015, 415, accelerated=False),
  "inception": Variant(0.0015, 774, batch_norm=False, accelerated=False),
  "bn_x5_sigmoid": Variant(0.0075, 192, activation="sigmoid"),
}


def variant_config(
  variant: Variant, data_name: str, epochs: float | None = None
) -> ml_collections.ConfigDict:
  """The config of one network on one data set.

  Args:
    variant: the network.
    data_name: a key of `DATA_SETS`.
    epochs: length of training; the data set's own by default, and on ImageNet the paper's. A run
      that is shorter than the paper's goes through the same rates in its own time.
  """
  data = DATA_SETS[data_name]
  epochs = epochs or data.epochs or variant.paper_epochs
  config = train_config()
  data_sets.choose_data_set(config, data_name, data.image_size)

  config.model.activation = variant.activation
  config.model.local_response_norm = not variant.accelerated
  config.model.dropout_rate = 0.0 if variant.accelerated else 0.4
  config.batch_norm.enabled = variant.batch_norm
  # The paper's statistics are those of one replica's 32 images, whatever the number of replicas.
  config.batch_norm.statistics = "group"
  config.batch_norm.virtual_batch_size = 32

  if data.crop == "area":
    # "Less photometric distortion", in numbers: half. Ours.
    config.data.augmentation.photometric = 0.5 if variant.accelerated else 1.0

  config.batch_size = 32  # section 4.2: mini-batches of 32
  config.duration = f"{epochs:g} epochs"

  config.optimizer.name = "sgd"
  config.optimizer.learning_rate = variant.learning_rate
  config.optimizer.sgd.momentum = 0.9  # ours; GoogLeNet's
  config.optimizer.l2 = 4e-5 if variant.accelerated else 2e-4  # ours; a fifth, as in 4.2.1
  # GoogLeNet lowers its rate by 4 % every 8 epochs, the accelerated networks six times as often.
  config.optimizer.schedule.name = "exponential"
  config.optimizer.schedule.factor = 0.96
  interval = (8 / 6 if variant.accelerated else 8) * epochs / variant.paper_epochs
  config.optimizer.schedule.interval = f"{interval:.6g} epochs"
  config.optimizer.schedule.staircase = data.epochs is None
  return config
