"""What the configs of Inception-v3, Inception-v4 and the Inception-ResNets have in common."""

import ml_collections

from speedpaper_jax.config import data_sets, imagenet_recipes, recipe
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.papers.networks import NETWORKS

_INTERVALS = 80  # of two epochs each in the papers' longest common run, Figures 23 and 24


def later_network_config(model: str, data: str, recipe_name: str) -> ml_collections.ConfigDict:
  """The config of one of the four networks; its file sets what it does not share.

  Args:
    model: its name.
    data: a key of `data_sets.DATA_SETS`. Small images are enlarged to 75 pixels, the least that
      the networks take, and ImageNet's have the papers' 299.
    recipe_name: one of `imagenet_recipes.NAMES`.

  Raises:
    UserError: the recipe is not for this data set.
  """
  chosen = imagenet_recipes.find(model, recipe_name, data)
  config = train_config()
  network = NETWORKS[model]
  is_imagenet = data == "imagenet2012"
  image_size = network.image_size if is_imagenet else network.smallest_image_size
  data_sets.choose_data_set(config, data, image_size)
  config.model.name = model
  config.model.dropout_rate = 0.2
  recipe.apply(config, chosen, data)
  return config


def with_small_epsilon(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Makes the length of a step the rate's alone.

  With ε = 1 it is also the gradient's, whose norm is in the thousands when the two largest networks
  start on images of 75 pixels: Inception-v4 stayed at chance. Ours.
  """
  config.optimizer.rmsprop.eps = 1e-3
  config.optimizer.learning_rate = 0.0016
  return config


def shorten(config: ml_collections.ConfigDict, epochs: float, width: float) -> None:
  """Makes a run on small images a matter of minutes on two cores, for comparisons of many.

  Args:
    config: of `later_network_config`, on another data set than ImageNet.
    epochs: length of training, which goes through the paper's rates in its own time.
    width: see `LayerSettings.width`.
  """
  config.model.width = width
  config.duration = f"{epochs:g} epochs"
  config.optimizer.schedule.interval = f"{epochs / _INTERVALS:.6g} epochs"
  # See `with_small_epsilon`; with fewer filters the networks bear higher rates. Ours.
  config.optimizer.rmsprop.eps = 1e-3
  config.optimizer.learning_rate = 0.01
  config.average_decay = 0.99
  # Algorithm 2: the moving averages lag behind in a run as short as this.
  config.batch_norm.inference = "population"
  config.batch_norm.population_batches = 8
  config.checkpoint_every = "0 steps"
