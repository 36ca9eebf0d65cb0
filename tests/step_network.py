"""The network, batch and step that tests of steps share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from speedpaper_jax.models import features
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ConvBlock, Dropout, LayerSettings
from speedpaper_jax.steps.step import TrainState, make_train_step

CLASSES = 7


class Network(nn.Module):
  """A convolution, dropout and a softmax layer, in float64, and heads beside the convolution."""

  batch_norm: BatchNorm | None = None
  dropout_rate: float = 0.0
  aux_heads: tuple[str, ...] = ()

  @nn.compact
  def __call__(self, images, *, train):
    settings = LayerSettings(self.batch_norm, activation="sigmoid", dtype=jnp.float64)
    x = images.astype(jnp.float64)
    x = ConvBlock(6, (3, 3), settings, strides=2, name="conv")(x, train=train)
    for name in self.aux_heads:
      aux = ConvBlock(5, (1, 1), settings, name=f"{name}_conv")(x, train=train)
      aux = nn.Dense(CLASSES, dtype=jnp.float64, name=name)(jnp.mean(aux, (1, 2)))
      features.aux_logits(self, name, aux)
    x = Dropout(self.dropout_rate)(x.reshape(x.shape[0], -1), train=train)
    return nn.Dense(CLASSES, dtype=jnp.float64, name="logits")(x)


def make_batch(rows, seed=0):
  generator = np.random.default_rng(seed)
  return {
    "image": generator.integers(0, 256, (rows, 6, 6, 3)).astype(np.uint8),
    "label": generator.integers(0, CLASSES, rows).astype(np.int32),
    "mask": np.ones(rows, np.float32),
  }


def make_step(network, *, average=False, optimizer=None, **options):
  """A compiled step and its first state, with parameters in float64."""
  optimizer = optimizer or optax.sgd(0.1, momentum=0.9)
  variables = network.init(jax.random.key(0), jnp.zeros((1, 6, 6, 3)), train=False)
  variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
  state = TrainState.create(variables, optimizer, with_average=average)
  return jax.jit(make_train_step(network, optimizer, seed=5, **options)), state


def assert_close(actual, expected, tolerance=1e-12):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected
  )
