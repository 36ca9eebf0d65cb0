"""How Inception-v3, Inception-v4 and the Inception-ResNets are trained.

The four share one recipe (arXiv 1512.00567, section 8, and 1602.07261, section 4): RMSProp with
decay 0.9 and ε = 1, a rate of 0.045 that falls to 94 % every two epochs, and a running average of
the parameters for evaluation. What the papers leave open is as in their authors' code: momentum
0.9, L2 4e-5, patches of 5 to 100 % of the image, an average with decay 0.9999.
"""

import ml_collections

from speedpaper_jax.config import data_sets
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.papers.networks import NETWORKS


def rmsprop_config(model: str, data: str, paper_epochs: int) -> ml_collections.ConfigDict:
  """The config of one of the four networks; its file sets what it does not share.

  Args:
    model: its name.
    data: a key of `data_sets.DATA_SETS`. Small images are enlarged to 75 pixels, the least that
      the networks take, and ImageNet's have the papers' 299.
    paper_epochs: length of training on ImageNet. A run that is shorter goes through the same rates
      in its own time.
  """
  is_imagenet = data == "imagenet2012"
  epochs = data_sets.DATA_SETS[data].epochs or paper_epochs
  config = train_config()
  network = NETWORKS[model]
  image_size = network.image_size if is_imagenet else network.smallest_image_size
  data_sets.choose_data_set(config, data, image_size)

  config.model.name = model
  config.model.dropout_rate = 0.2
  # The papers' statistics are those of one replica's 32 images, whatever the number of replicas.
  config.batch_norm.statistics = "group"
  config.batch_norm.virtual_batch_size = 32

  if is_imagenet:
    config.data.augmentation.area_range = (0.05, 1.0)
    config.data.augmentation.photometric = 0.5  # ours, as for BN-Inception

  # The papers' 20 to 50 replicas took 32 images each; whether they stepped together, on 640 to
  # 1600, or one by one is not said. Ours, in between: 0.045 belongs to 256, eight devices of 32.
  config.batch_size = 256 if is_imagenet else 32
  config.duration = f"{epochs} epochs"
  config.optimizer.name = "rmsprop"
  config.optimizer.learning_rate = 0.045
  config.optimizer.base_batch_size = 256
  config.optimizer.rmsprop.momentum = 0.9
  config.optimizer.rmsprop.decay = 0.9
  config.optimizer.rmsprop.eps = 1.0
  config.optimizer.l2 = 4e-5
  config.optimizer.schedule.name = "exponential"
  config.optimizer.schedule.factor = 0.94
  config.optimizer.schedule.interval = f"{2 * epochs / paper_epochs:.6g} epochs"
  config.optimizer.schedule.staircase = is_imagenet
  config.average_decay = 0.9999  # what it averages is never longer than a tenth of the run so far
  return config


def with_small_epsilon(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Makes the length of a step the rate's alone.

  With ε = 1 it is also the gradient's, whose norm is in the thousands when the two largest networks
  start on images of 75 pixels: Inception-v4 stayed at chance. Ours.
  """
  config.optimizer.rmsprop.eps = 1e-3
  config.optimizer.learning_rate = 0.0016
  return config
