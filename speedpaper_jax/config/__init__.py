"""Configs: their defaults, data sets and recipes, and how config files are read.

What a config file needs is here by name; `ranges` says what the fields may hold.
"""

from speedpaper_jax.config.bn_recipe import VARIANTS, Variant, variant_config
from speedpaper_jax.config.data_sets import DATA_SETS, DataSet, choose_data_set
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.files import parse_arguments
from speedpaper_jax.config.rmsprop_recipe import rmsprop_config, with_small_epsilon

__all__ = [
  "DATA_SETS",
  "VARIANTS",
  "DataSet",
  "Variant",
  "choose_data_set",
  "parse_arguments",
  "rmsprop_config",
  "train_config",
  "variant_config",
  "with_small_epsilon",
]
