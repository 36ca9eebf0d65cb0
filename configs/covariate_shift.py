"""Internal covariate shift in Inception with and without BN: every layer's inputs and their drift.

  python -m speedpaper_jax.main --config=configs/covariate_shift.py

Both networks see the same batches. Every few steps the inputs of all their ReLUs are looked at
before and after one step of training: mean, standard deviation, and by how much of it the mean has
moved. `data` is digits (embedded, the default), mnist, fashion_mnist, cifar10 or cifar100.

84 seconds on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import parse_arguments
from speedpaper_jax.experiments import side_by_side


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the experiment on one data set."""
  names = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
  data = parse_arguments(arguments, data=names)["data"]
  config = side_by_side.default_config()
  config.experiment = "covariate_shift"
  config.data = ml_collections.ConfigDict()
  config.data.name = data
  config.data.dir = ""  # where prepared data lies; empty for TFDS's own default
  # Memory holds as many images as training sees, and little more.
  config.data.train_split = "train" if data == "digits" else "train[:6400]"
  config.data.eval_split = "test" if data == "digits" else "test[:1000]"
  config.data.image_size = 32

  config.batch_norm.decay = 0.95  # of a short run
  config.batch_size = 32
  config.steps = 200
  config.optimizer.learning_rate = 0.0015  # Inception's, which BN-Baseline shares (section 4.2.2)
  config.optimizer.momentum = 0.9
  config.measure_every = 10
  config.measured_examples = 64  # the first of the training set
  return config
