"""Initial values are the program's own, without its calls of Python."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models import registry
from speedpaper_jax.models.layers import kernel_init
from speedpaper_jax.steps import build, initial_values


def draw_kernels(seed):
  keys = jax.random.split(jax.random.key(seed), 2)
  first, second = kernel_init(keys[0], (3, 3, 3, 8)), kernel_init(keys[1], (8, 10))
  return {"first": first, "second": 3 * second, "average": jnp.copy(first), "mean": jnp.zeros(8)}


@pytest.fixture
def kept(tmp_path):
  """Names of the compiled programs that are kept, whatever time they took."""
  changed = {
    "jax_compilation_cache_dir": str(tmp_path),
    "jax_persistent_cache_min_compile_time_secs": 0,
  }
  before = {name: getattr(jax.config, name) for name in changed}
  for name, value in changed.items():
    jax.config.update(name, value)
  jax_cache.reset_cache()
  yield lambda: {path.name.rpartition("-")[0].rpartition("-")[0] for path in tmp_path.iterdir()}
  for name, value in before.items():
    jax.config.update(name, value)
  jax_cache.reset_cache()


def assert_same(tree, expected):
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  for value, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
    assert value.dtype == other.dtype
    np.testing.assert_array_equal(value, other)


def test_they_are_those_of_the_program():
  program = jax.jit(lambda: draw_kernels(5)).trace()
  assert_same(initial_values.draw(program), program.lower().compile()())


def test_they_are_those_of_the_program_of_a_run(monkeypatch):
  """With the optimiser's state and the average; the softmax layer is drawn by JAX itself."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config = train_config()
  config.data.image_size = 16
  config.average_decay = 0.9
  config.model.initial_scale = 0.7
  network = build.build_model(config, 10, parallel.make_mesh())
  program = build.trace_initial_state(config, network, optax.rmsprop(0.1, momentum=0.9))
  assert_same(initial_values.draw(program), program.lower().compile()())


def test_a_program_that_draws_nothing_runs_as_it_is():
  program = jax.jit(lambda: {"ones": jnp.ones(3), "step": jnp.int32(4)}).trace()
  assert_same(initial_values.draw(program), {"ones": jnp.ones(3), "step": jnp.int32(4)})


def test_what_is_compiled_is_kept(kept):
  """JAX keeps nothing that calls Python."""
  program = jax.jit(lambda: draw_kernels(6)).trace()
  program.lower().compile()
  assert not kept()
  initial_values.draw(program)
  assert "jit_initial_values" in kept()


def test_what_nobody_asks_for_is_not_computed():
  def refuse():
    raise AssertionError

  def draw_and_apply():
    kernel = kernel_init(jax.random.key(0), (2, 2))
    jax.pure_callback(refuse, jax.ShapeDtypeStruct((), jnp.float32))
    return kernel

  assert initial_values.draw(jax.jit(draw_and_apply).trace()).shape == (2, 2)
