"""Which other implementations there are of a network."""

from speedpaper_jax.interop.names import implementations

FLAX = "flax"
NAMES = (FLAX, "keras", "timm", "torchvision", "pretrainedmodels", "pytorchcv", "facenet")


def dialect_of(model: str, peer: str) -> str | None:
  """Which of our dialects another package's network is; None where it has none, or any."""
  return next((names.dialect for names in implementations(model) if names.source == peer), None)
