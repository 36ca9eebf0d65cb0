"""Networks by name."""

import importlib
from typing import Any

import flax.linen as nn

from speedpaper_jax.errors import UserError, did_you_mean

# Name → module file and class; a file is imported when its network is asked for.
MODELS = {"bn_inception": ("bn_inception", "BNInception")}


def create(name: str, dialect: str = "paper", **fields: Any) -> nn.Module:
  """Creates a network.

  Args:
    name: a key of `MODELS`.
    dialect: whose implementation it matches, a key of the model file's `DIALECTS`.
    **fields: of the network's module: `num_classes`, `settings`, and what its file documents.

  Raises:
    UserError: an unknown name or dialect.
  """
  if name not in MODELS:
    raise UserError(f"There is no model '{name}'.{did_you_mean(name, MODELS)}")
  file, class_name = MODELS[name]
  module = importlib.import_module(f"speedpaper_jax.models.{file}")
  if dialect not in module.DIALECTS:
    raise UserError(f"{name} has no dialect '{dialect}'.{did_you_mean(dialect, module.DIALECTS)}")
  return getattr(module, class_name)(dialect=module.DIALECTS[dialect], **fields)
