"""How programs are compiled in tests."""

import contextlib

import jax


@contextlib.contextmanager
def quick():
  """Without optimisations that take longer than they save where little is computed."""
  jax.config.update("jax_disable_most_optimizations", True)
  try:
    yield
  finally:
    jax.config.update("jax_disable_most_optimizations", False)
