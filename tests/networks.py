"""Networks traced for their shapes, without computing anything, and counts of what they hold."""

import functools
import math
from typing import NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from speedpaper_jax import models
from speedpaper_jax.descriptions import operations
from speedpaper_jax.papers.networks import NETWORKS

# Every dialect of every network, with whether it can have auxiliary heads.
DIALECTS = [
  (name, dialect) for name in models.registry.MODELS for dialect in models.registry.dialects(name)
]
NAMES_WITH_AUX_HEADS = [
  name for name in models.registry.MODELS if models.registry.has_field(name, "use_aux_heads")
]


class Trace(NamedTuple):
  """Shapes and dtypes of a network on two images."""

  outputs: jax.ShapeDtypeStruct
  variables: dict  # params and batch_stats
  features: dict
  aux_logits: dict
  program: jax.extend.core.ClosedJaxpr

  def stages(self):
    """Stage → height, width and channels."""
    return {name: feature.shape[1:] for name, feature in self.features.items()}

  def parameters(self):
    """Number of trained values."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.variables["params"]))

  def multiply_adds(self):
    """Those of convolutions and matrix products for one image."""
    return sum(found.multiply_adds for found in operations.find(self.program)) // 2

  def kernels(self, *path):
    """Shapes of the kernels under a path, by the name of their block."""
    section = functools.reduce(lambda tree, key: tree[key], path, self.variables["params"])
    return {name: block["conv"]["kernel"].shape for name, block in section.items()}


def trace(name, dialect=None, *, size=None, train=False, **fields):
  """A network as `models.create` gives it, on images of the paper's size if not told otherwise.

  A size is the side of a square, or height and width.
  """
  size = size or NETWORKS[name].image_size
  return _trace(models.create(name, dialect, **fields), size, train)


def trace_anew(name, dialect, **fields):
  """`init` and `apply` in training, for what modules do while they are traced."""
  network = models.create(name, dialect, **fields)
  images = _images(network, NETWORKS[name].image_size)
  variables = jax.eval_shape(lambda x: network.init(_keys(), x, train=True), images)
  jax.eval_shape(
    lambda variables, x: network.apply(
      variables, x, train=True, mutable=["batch_stats"], rngs=_keys()
    ),
    variables,
    images,
  )


@functools.cache
def _trace(network, size, train):
  variables = _variables(network, size)
  left = ["batch_stats", "features", "aux_logits"]
  program, (outputs, collections) = jax.make_jaxpr(
    lambda variables, x: network.apply(variables, x, train=train, mutable=left, rngs=_keys()),
    return_shape=True,
  )(variables, _images(network, size))
  return Trace(
    outputs, variables, collections.get("features", {}), collections.get("aux_logits", {}), program
  )


@functools.cache
def _variables(network, size):
  """Those for training are those for evaluation."""
  return jax.eval_shape(lambda x: network.init(_keys(), x, train=False), _images(network, size))


def trained(shapes, dtype=np.float64):
  """Kernels as a network is initialised with, and the others as after much training."""
  generator = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1].key.endswith("kernel"):
      return generator.normal(0, math.sqrt(2 / math.prod(leaf.shape[:-1])), leaf.shape)
    if path[-1].key == "var":
      return np.exp(generator.uniform(-1, 1, leaf.shape))
    if path[-1].key == "scale":
      return generator.uniform(0.3, 1.0, leaf.shape)
    return generator.normal(0, 0.3, leaf.shape)

  drawn = jax.tree_util.tree_map_with_path(draw, shapes)
  return jax.tree.map(lambda leaf: leaf.astype(dtype), drawn)


def _images(network, size):
  height, width = (size, size) if isinstance(size, int) else size
  return jax.ShapeDtypeStruct((2, height, width, network.settings.channels), jnp.float32)


def _keys():
  return {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def weights(channels, *convolutions):
  """Of convolutions one after the other, each (filters, height, width), with their γ and β."""
  total = 0
  for filters, height, width in convolutions:
    total += channels * filters * height * width + 2 * filters
    channels = filters
  return total


def linear(inputs, outputs):
  """Weights and biases of a fully connected layer, or of a 1×1 convolution with biases."""
  return (inputs + 1) * outputs
