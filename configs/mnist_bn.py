"""Figure 1 of the Batch Normalization paper: sigmoids on MNIST, with BN and without.

  python -m speedpaper_jax.data.prepare mnist
  python -m speedpaper_jax.main --config=configs/mnist_bn.py

Section 4.1: binary images, 3 hidden layers of 100 sigmoids, batches of 60, 50,000 steps. Both
networks have the same initial weights and see the same batches, and so does a third, whose γ and β
stay 1 and 0. Shown are the accuracy on held-out digits, the {15, 50, 85}th percentiles of a typical
input of the last sigmoids, and how far every layer's inputs drift from step to step.
`data` is mnist (the default) or digits, which is embedded and small.

1 minute on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import parse_arguments
from speedpaper_jax.experiments import side_by_side


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the experiment on one data set."""
  data = parse_arguments(arguments, data=("mnist", "digits"))["data"]
  config = side_by_side.default_config()
  config.experiment = "mnist_bn"
  config.data = ml_collections.ConfigDict()
  config.data.name = data
  config.data.dir = ""  # where prepared data lies; empty for TFDS's own default
  config.data.train_split = "train"
  config.data.eval_split = "test"

  config.hidden_layers = 3
  config.hidden_units = 100
  config.batch_size = 60
  config.steps = 50_000 if data == "mnist" else 10_000
  # "Small random Gaussian values"; the paper gives no deviation, optimiser or rate. Ours: with
  # these the network without BN has a plateau of 2,000 steps at first, as the paper's has.
  config.initial_std = 0.04
  config.optimizer.learning_rate = 0.2

  config.measure_every = 250  # steps
  config.measured_examples = 1000  # the first of the training set
  return config
