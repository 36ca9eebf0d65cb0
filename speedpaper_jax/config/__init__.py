"""Configs: their defaults, data sets and recipes, and how config files are read.

What a config file needs is here by name; `ranges` says what the fields may hold.
"""

from speedpaper_jax.config.bn_recipe import VARIANTS, Variant, variant_config
from speedpaper_jax.config.data_sets import DATA_SETS, DataSet, choose_data_set
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.files import parse_arguments
from speedpaper_jax.config.imagenet_recipes import NAMES as RECIPE_NAMES
from speedpaper_jax.config.imagenet_recipes import find as find_recipe
from speedpaper_jax.config.later_networks import later_network_config, shorten, with_small_epsilon
from speedpaper_jax.config.recipe import apply as apply_recipe

__all__ = [
  "DATA_SETS",
  "RECIPE_NAMES",
  "VARIANTS",
  "DataSet",
  "Variant",
  "apply_recipe",
  "choose_data_set",
  "find_recipe",
  "later_network_config",
  "parse_arguments",
  "shorten",
  "train_config",
  "variant_config",
  "with_small_epsilon",
]
