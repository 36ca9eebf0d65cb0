"""Flax (linen) modules of the papers' networks; they know nothing of data, files or devices."""

from speedpaper_jax.models.features import extract_features, stage_outputs
from speedpaper_jax.models.registry import create

__all__ = ["create", "extract_features", "stage_outputs"]
