"""A parabola fitted by eight narrow layers with and without BN: activations, curves and fits.

  python -m speedpaper_jax.main --config=configs/bn_fc.py
  python -m speedpaper_jax.main --config=configs/bn_fc.py:activation=tanh,input_batch_norm=no

8 hidden layers of 10 units learn y = x² − 5 with noise, from weights of standard deviation 0.1 and
biases of -0.2. `activation` is relu (the default), tanh or sigmoid. `input_batch_norm` says whether
the network with batch normalization also has it on its raw input, as in the experiment that this
one follows; without it the two networks differ in their hidden layers alone, which is fairer.

10 seconds on two CPU cores.
"""

import ml_collections

from speedpaper_jax.config import parse_arguments
from speedpaper_jax.experiments import side_by_side


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the experiment with one activation."""
  chosen = parse_arguments(
    arguments, activation=("relu", "tanh", "sigmoid"), input_batch_norm=("yes", "no")
  )
  config = side_by_side.default_config()
  config.experiment = "bn_fc"
  config.activation = chosen["activation"]
  config.input_batch_norm = chosen["input_batch_norm"] == "yes"
  config.seed = 1

  config.train_examples = 2000
  config.test_examples = 200
  config.hidden_layers = 8
  config.hidden_units = 10
  config.initial_std = 0.1
  config.initial_bias = -0.2
  config.batch_norm.epsilon = 1e-5
  config.batch_norm.decay = 0.5

  config.batch_size = 64  # the last of an epoch has 16
  config.epochs = 12
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 0.03
  return config
