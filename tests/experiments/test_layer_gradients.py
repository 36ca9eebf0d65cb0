"""Norms of the loss's gradient by layer, beside gradients of a loss that is written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.distributed import parallel
from speedpaper_jax.experiments import layer_gradients
from speedpaper_jax.experiments.layer_gradients import LayerGradient
from speedpaper_jax.models import features, registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ConvBlock, Dropout, LayerSettings

CLASSES, EPSILON, AUX_WEIGHT, SMOOTHING = 3, 1e-3, 0.3, 0.1


class Network(nn.Module):
  """Two convolutions in another order than the alphabet's, with a head between them."""

  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, images, *, train):
    settings = LayerSettings(BatchNorm(epsilon=EPSILON), activation="tanh", dtype=jnp.float64)
    x = ConvBlock(4, (1, 1), settings, name="stem")(images, train=train)
    if train or self.is_initializing():
      head = nn.Dense(CLASSES, dtype=jnp.float64, name="aux")
      features.aux_logits(self, "aux", head(jnp.mean(x, (1, 2))))
    x = ConvBlock(5, (1, 1), settings, name="block")(x, train=train)
    x = Dropout(self.dropout_rate)(jnp.mean(x, (1, 2)), train=train)
    return nn.Dense(CLASSES, dtype=jnp.float64, name="logits")(x)


def written_out(params, batch, aux_weight):
  """Its loss without dropout, of the rows of mask 1."""
  rows = np.flatnonzero(batch["mask"])
  x = jnp.asarray((batch["image"][rows].astype(np.float64) - DEFAULT.mean) / DEFAULT.std)
  targets = (1 - SMOOTHING) * np.eye(CLASSES)[batch["label"][rows]] + SMOOTHING / CLASSES

  def layer(x, name):
    u, norm = x @ params[name]["conv"]["kernel"][0, 0], params[name]["batch_norm"]
    mean, variance = jnp.mean(u, (0, 1, 2)), jnp.var(u, (0, 1, 2))
    return jnp.tanh(norm["scale"] * (u - mean) / jnp.sqrt(variance + EPSILON) + norm["bias"])

  def loss(x, name):
    logits = jnp.mean(x, (1, 2)) @ params[name]["kernel"] + params[name]["bias"]
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), -1))

  x = layer(x, "stem")
  return loss(layer(x, "block"), "logits") + aux_weight * loss(x, "aux")


@pytest.fixture(scope="module")
def case():
  generator = np.random.default_rng(0)
  batch = {
    "image": generator.integers(0, 256, (8, 3, 3, 3), np.uint8),
    "label": generator.integers(0, CLASSES, 8).astype(np.int32),
    "mask": np.array([1, 1, 1, 0, 1, 1, 0, 1], np.float32),
  }
  with jax.enable_x64():
    variables = Network().init(jax.random.key(0), jnp.zeros((1, 3, 3, 3)), train=False)
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
    yield variables, batch


def measure(case, network=None, devices=1, **fields):
  variables, batch = case
  mesh = parallel.make_mesh(jax.devices()[:devices])
  fields = {"label_smoothing": SMOOTHING, **fields}
  measure = layer_gradients.make_measurement(network or Network(), mesh, **fields)
  return measure(parallel.replicate(mesh, variables), parallel.shard_batch(mesh, batch))


@pytest.mark.parametrize("aux_weight", [0.0, AUX_WEIGHT])
def test_they_are_those_of_the_loss_written_out(case, aux_weight):
  variables, batch = case
  expected = jax.grad(written_out)(variables["params"], batch, aux_weight)
  found = measure(case, aux_weight=aux_weight)
  for name, gradient, kernel in (
    ("stem/conv", expected["stem"]["conv"], variables["params"]["stem"]["conv"]),
    ("block/conv", expected["block"]["conv"], variables["params"]["block"]["conv"]),
    ("logits", expected["logits"], variables["params"]["logits"]),
  ):
    norm, kernel_norm = (np.linalg.norm(x["kernel"].ravel()) for x in (gradient, kernel))
    # Images are normalised in float32.
    assert_allclose(found[name].norm, norm, rtol=1e-5)
    assert_allclose(found[name].kernel_norm, kernel_norm, rtol=1e-12)
    assert_allclose(found[name].relative, norm / kernel_norm, rtol=1e-5)


def test_they_are_of_the_trunk_from_the_input_on(case):
  assert list(measure(case)) == ["stem/conv", "block/conv", "logits"]


def test_the_head_adds_to_what_lies_before_it_alone(case):
  without, with_head = measure(case), measure(case, aux_weight=AUX_WEIGHT)
  assert without["stem/conv"].norm != pytest.approx(with_head["stem/conv"].norm, rel=1e-3)
  for name in ("block/conv", "logits"):
    assert_allclose(with_head[name].norm, without[name].norm, rtol=1e-12)


def test_heads_with_other_weights_are_no_other_program(case):
  mesh = parallel.make_mesh(jax.devices()[:1])
  network = Network(dropout_rate=0.1)  # which no other test has
  for aux_weight in (0.0, AUX_WEIGHT):
    measure(case, network, aux_weight=aux_weight)
  compiled = layer_gradients._compiled(network, mesh, SMOOTHING, 0, DEFAULT)
  assert compiled._cache_size() == 1


def test_on_two_devices(case):
  one, two = measure(case), measure(case, devices=2)
  for name, gradient in one.items():
    assert two[name].norm == pytest.approx(gradient.norm, rel=1e-6)


def test_units_are_dropped_as_the_seed_says(case):
  network = Network(dropout_rate=0.5)
  first, again, other = (measure(case, network, seed=seed)["stem/conv"] for seed in (0, 0, 1))
  assert first == again != other
  assert first != measure(case)["stem/conv"]


def test_both_kernels_of_a_separable_convolution():
  network = registry.create("googlenet", num_classes=CLASSES)
  names = layer_gradients.layers(network, (1, 32, 32, 3))
  assert names[:4] == (
    *("conv1/conv/depthwise_kernel", "conv1/conv/pointwise_kernel"),
    *("conv2_reduce/conv", "conv2/conv"),
  )
  assert names[-2:] == ("inception_5b/pool_proj/conv", "logits")


def test_the_kernels_of_a_module_are_one_vector():
  gradients = {
    "stem/conv": LayerGradient(2.0, 1.0),
    "block/a/conv": LayerGradient(3.0, 5.0),
    "block/b/conv": LayerGradient(4.0, 12.0),
    "logits": LayerGradient(7.0, 8.0),
  }
  found = layer_gradients.by_module(gradients)
  assert list(found) == ["stem", "block", "logits"]
  assert found["block"] == LayerGradient(5.0, 13.0)
  assert found["logits"] == gradients["logits"]
