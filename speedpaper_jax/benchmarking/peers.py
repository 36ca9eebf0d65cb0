"""Which other implementations there are of a network."""

from speedpaper_jax.interop.names import implementations
from speedpaper_jax.models import registry

FLAX = "flax"
NAMES = (FLAX, "keras", "timm", "torchvision", "pretrainedmodels", "pytorchcv", "facenet")


def dialect_of(model: str, peer: str) -> str | None:
  """Which of our dialects another implementation of a network is; None where there is none."""
  if peer == FLAX:  # of any
    return registry.dialects(model)[0]
  return next((names.dialect for names in implementations(model) if names.source == peer), None)
