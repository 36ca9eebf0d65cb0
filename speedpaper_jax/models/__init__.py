"""Flax (linen) modules of the papers' networks; they know nothing of data, files or devices."""
