"""Initial scales with and without BN: a hundred layers' outputs, and what can be trained at all.

  python -m speedpaper_jax.main --config=configs/bn_init.py
  python -m speedpaper_jax.main --config=configs/bn_init.py:init=kaiming

First 100 layers of 256 rectified units are applied to 16 random inputs: the standard deviation of
every layer's output, and where it dies, overflows or becomes NaN. `init` is all (the default) or
one of default (PyTorch's), normal, normal1000 and kaiming. Then 8 such layers are trained on
`data`, digits (embedded, the default) or mnist, from kernels of standard deviations 0.001 to 1,
each at four rates, of which the best counts.

80 seconds on two CPU cores.
"""

import ml_collections
import numpy as np

from speedpaper_jax.config import parse_arguments
from speedpaper_jax.experiments import side_by_side

INITIALIZERS = ("default", "normal", "normal1000", "kaiming")


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
  """Returns the config of the experiment."""
  chosen = parse_arguments(arguments, init=("all", *INITIALIZERS), data=("digits", "mnist"))
  config = side_by_side.default_config()
  config.experiment = "bn_init"
  config.batch_norm.epsilon = 1e-5  # PyTorch's, as is the experiment's that this one follows

  config.deep = ml_collections.ConfigDict()
  config.deep.initializers = INITIALIZERS if chosen["init"] == "all" else (chosen["init"],)
  config.deep.layers = 100
  config.deep.units = 256
  config.deep.batch_size = 16
  config.deep.seeds = 5

  config.data = ml_collections.ConfigDict()
  config.data.name = chosen["data"]
  config.data.dir = ""  # where prepared data lies; empty for TFDS's own default
  config.data.train_split = "train"
  config.data.eval_split = "test"

  config.trained = ml_collections.ConfigDict()
  config.trained.layers = 8
  config.trained.units = 64
  config.trained.scales = tuple(float(f"{scale:.3g}") for scale in np.geomspace(0.001, 1, 13))
  config.trained.learning_rates = (0.01, 0.03, 0.1, 0.3)
  del config.optimizer.learning_rate
  config.trained.seeds = 3
  config.trained.steps = 1000
  return config
