"""Section 3.3 of the paper on residual connections: scaled residuals, and what dies without.

  python -m speedpaper_jax.main --config=configs/residual_scaling.py

Inception-ResNet-v2 with an eighth, a quarter and half of its filters is trained at three rates,
with its residuals as they are and scaled by 0.3, 0.2 and 0.1, on the same batches and from the same
first weights; with the paper's other remedy, too, a warm-up at a low rate. How many of the last
features are dead, and how do loss, gradient and the outputs of the blocks behave? RMSProp, its ε
and the middle rate are the paper's. `data` is digits (embedded, the default), mnist, fashion_mnist,
cifar10 or cifar100. `--config.widths="(1,)"` and `--config.data.image_size=299` are the paper's
size.

17 minutes on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import parse_arguments


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the experiment on one data set."""
  names = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
  data = parse_arguments(arguments, data=names)["data"]
  config = ml_collections.ConfigDict()
  config.experiment = "residual_scaling"
  config.seed = 0  # of initial values, and of the order of the examples

  config.model = ml_collections.ConfigDict()
  config.model.name = "inception_resnet_v2"  # or inception_resnet_v1
  config.widths = (0.125, 0.25, 0.5)
  config.scales = (1.0, 0.3, 0.2, 0.1)
  config.rates = (0.015, 0.045, 0.135)

  config.warmup = ml_collections.ConfigDict()
  config.warmup.scale = 1.0  # of the residuals that it is to be enough for
  config.warmup.steps = 40
  config.warmup.factor = 0.01  # of the rate

  # Section 4: the paper's best networks had RMSProp with decay 0.9 and ε = 1; the momentum is of
  # its authors' code.
  config.rmsprop = ml_collections.ConfigDict()
  config.rmsprop.decay = 0.9
  config.rmsprop.eps = 1.0
  config.rmsprop.momentum = 0.9
  config.batch_size = 32  # of one of the paper's replicas
  config.steps = 120
  config.measure_every = 4
  config.batch_norm = ml_collections.ConfigDict()
  config.batch_norm.epsilon = 1e-3
  config.batch_norm.decay = 0.95  # of a short run

  config.data = ml_collections.ConfigDict()
  config.data.name = data
  config.data.dir = ""  # where prepared data lies; empty for TFDS's own default
  # Memory holds as many images as training sees, and little more.
  config.data.train_split = "train" if data == "digits" else "train[:3840]"
  config.data.image_size = 75  # the least that the network takes
  return config
