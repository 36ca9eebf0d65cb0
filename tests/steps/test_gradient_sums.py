"""The dtype in which gradients are summed over devices, as the compiled step has it."""

import collections
import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from step_network import assert_close, make_batch

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models import heads, registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ConvBlock, LayerSettings, network_input
from speedpaper_jax.steps import assembly
from speedpaper_jax.steps.step import TrainState, make_train_step

# Of what `Network` has: kernels and biases by the number of their values.
SEPARABLE = {"jit": (5 * 5 * 3 * 6,), "pmap": (5 * 5 * 12, 12 * 6)}  # as one dense kernel, or apart
OTHERS = (3 * 3 * 6 * 7, 7, 7 * 11, 11)
NORMALIZED = 6  # γ and β, and statistics


class Network(nn.Module):
  """A separable convolution with batch normalization, one with a bias, and a softmax layer."""

  settings: LayerSettings

  @nn.compact
  def __call__(self, images, *, train):
    settings = self.settings
    x = network_input(images, settings)
    x = ConvBlock(6, (5, 5), settings, strides=2, depth_multiplier=4, name="stem")(x, train=train)
    settings = dataclasses.replace(settings, batch_norm=None)
    x = ConvBlock(7, (3, 3), settings, name="conv")(x, train=train)
    return heads.logits(jnp.mean(x, (1, 2)), 11, settings)


@pytest.fixture(autouse=True)
def network(monkeypatch):
  monkeypatch.setattr(registry, "create", lambda *_, settings, **__: Network(settings))


def sums(tmp_path, **changes):
  """Number of values → dtypes of the all-reduces of so many.

  After the program was divided among the devices, and before the CPU's compiler widens bfloat16.
  """
  config = train_config()
  settings = {"batch_size": 32, "data.image_size": 16, "model.dtype": "bfloat16", **changes}
  config.update_from_flattened_dict(settings)
  parts = assembly.assemble(*assembly.prepare(config), 11, 1000)
  dump = {"xla_dump_to": str(tmp_path), "xla_dump_hlo_pass_re": "spmd-partitioning"}
  assembly.lower_step(parts).compile({**dump, "xla_dump_hlo_as_text": True})
  (divided,) = tmp_path.glob("*.after_spmd-partitioning.*")
  found = collections.defaultdict(set)
  for shapes in re.findall(r" = (.*?) all-reduce\(", divided.read_text()):
    for dtype, lengths in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
      found[int(np.prod([int(length) for length in lengths.split(",") if length]))].add(dtype)
  return found


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({}, "f32"),
    ({"gradient_sum_dtype": "bfloat16"}, "bf16"),
    ({"model.dtype": "float32"}, "f32"),
    ({"accumulation_steps": 2}, "f32"),
    ({"accumulation_steps": 2, "gradient_sum_dtype": "bfloat16"}, "bf16"),
  ],
  ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else value,
)
@pytest.mark.parametrize("mode", parallel.MODES)
def test_is_the_one_of_the_config(tmp_path, mode, changes, expected):
  found = sums(tmp_path, parallel=mode, **changes)
  for values in (*SEPARABLE[mode], *OTHERS):
    assert found[values] == {expected}, values
  assert found[NORMALIZED] == {"f32"}


class TestStep:
  """Of eight devices with pmap's semantics."""

  @staticmethod
  def gradients(dtype, mode="pmap"):
    """Of a network in float32, of images of which every device has some; and their norm."""
    model = Network(LayerSettings(BatchNorm()))
    optimizer, mesh = optax.sgd(1.0), parallel.make_mesh()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 6, 6, 3)), train=False)
    variables = jax.device_get(variables)
    state = TrainState.create(variables, optimizer, with_average=False)
    step = make_train_step(
      model, optimizer, seed=5, axis_name=parallel.axis_name(mode), gradient_sum_dtype=dtype
    )
    compiled = parallel.jit_train_step(step, mesh, mode)
    batch = parallel.shard_batch(mesh, make_batch(32))
    after, metrics = compiled(parallel.replicate(mesh, state), batch)
    return jax.tree.map(lambda a, b: a - np.asarray(b), variables["params"], after.params), metrics

  def test_float32_is_that_of_the_parameters(self):
    assert_close(self.gradients(jnp.dtype("float32")), self.gradients(None), 0)

  def test_bfloat16_rounds_all_but_those_of_batch_normalization(self):
    whole, _ = self.gradients(None)
    rounded, metrics = self.gradients(jnp.dtype("bfloat16"))
    assert_close(rounded["stem"]["batch_norm"], whole["stem"]["batch_norm"], 0)
    for layer in ("logits", "conv"):
      for found, expected in zip(
        jax.tree.leaves(rounded[layer]), jax.tree.leaves(whole[layer]), strict=True
      ):
        assert found.dtype == np.float32
        error = np.max(np.abs(found - expected)) / np.max(np.abs(expected))
        assert 1e-4 < error < 2e-2
    assert metrics["gradient_norm"].dtype == jnp.float32
