"""Networks by name."""

import dataclasses
import importlib
import math
import numbers
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from speedpaper_jax.errors import UserError, did_you_mean
from speedpaper_jax.models.dialect import CommonDialect
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.papers.networks import NETWORKS

# Each has a file of its name, with its `NETWORK` and `DIALECTS`, which is imported when it is asked
# for.
MODELS = tuple(NETWORKS)


def create(
  name: str,
  dialect: str | None = None,
  *,
  num_classes: int = 1000,
  dtype: jnp.dtype = jnp.float32,
  channels: int = 3,
  width: float = 1.0,
  settings: LayerSettings | None = None,
  **fields: Any,
) -> nn.Module:
  """Creates a network.

  Args:
    name: one of `MODELS`.
    dialect: whose implementation it matches, a key of the model file's `DIALECTS`; its first by
      default.
    num_classes: 0 for pooled features instead of logits.
    dtype: of activations and arithmetic, unless `settings` say it.
    channels: of the images, unless `settings` say it; 1 for grey ones, 3 for RGB.
    width: number of filters of each layer, as a part of its paper's, unless `settings` say it.
    settings: what all layers have in common; the dialect's batch normalization by default.
    **fields: of the network's module, as its file documents them.

  Raises:
    UserError: an unknown name or dialect, or classes, channels or a width that are none.
  """
  chosen = find_dialect(name, dialect)
  if not isinstance(num_classes, numbers.Integral) or num_classes < 0:
    raise UserError(
      f"num_classes is {num_classes!r}; give a whole number from 0, which is for pooled features."
    )
  if settings is None:
    settings = LayerSettings(chosen.batch_norm, dtype=dtype, channels=channels, width=width)
  if not isinstance(settings.channels, numbers.Integral) or settings.channels < 1:
    raise UserError(f"channels is {settings.channels!r}; give a whole number from 1.")
  if not isinstance(settings.width, numbers.Real) or not 0 < settings.width < math.inf:
    raise UserError(f"width is {settings.width!r}; give a number above 0, where 1 is the paper's.")
  return network_class(name)(dialect=chosen, num_classes=num_classes, settings=settings, **fields)


def network_class(name: str) -> Any:
  """The class of a network, a Flax module and so a dataclass."""
  return _file(name).NETWORK


def has_field(name: str, field: str) -> bool:
  """Whether a network has a setting, such as "residual_scales"."""
  return field in {found.name for found in dataclasses.fields(network_class(name))}


def dialects(name: str) -> list[str]:
  """The dialects of a network, the default first."""
  return list(_file(name).DIALECTS)


def find_dialect(name: str, dialect: str | None = None) -> CommonDialect:
  """A network's dialect by name; its first by default."""
  available = _file(name).DIALECTS
  dialect = dialect or next(iter(available))
  if dialect not in available:
    raise UserError(f"{name} has no dialect '{dialect}'.{did_you_mean(dialect, available)}")
  return available[dialect]


def _file(name: str) -> ModuleType:
  if name not in MODELS:
    raise UserError(f"There is no model '{name}'.{did_you_mean(name, MODELS)}")
  return importlib.import_module(f"speedpaper_jax.models.{name}")
