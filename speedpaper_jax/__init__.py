"""Batch Normalization and the Inception networks in JAX and Flax."""
