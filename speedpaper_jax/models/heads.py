"""What stands at the end of every network, and the auxiliary heads beside them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from speedpaper_jax.models import features
from speedpaper_jax.models.layers import ConvBlock, Dropout, LayerSettings, kernel_init


def classify(
  x: jax.Array, num_classes: int, dropout_rate: float, settings: LayerSettings, train: bool
) -> jax.Array:
  """The end of the network that calls this: global average pool, dropout, softmax layer.

  Args:
    x: [N, H, W, C].
    num_classes: 0 leaves dropout and softmax layer out.
    dropout_rate: before the softmax layer.
    settings: what all layers have in common.
    train: whether to drop.

  Returns:
    logits [N, num_classes], or pooled features [N, C]; at least float32.
  """
  x = jnp.mean(x, (1, 2))
  if not num_classes:
    return at_least_float32(x)
  x = Dropout(dropout_rate, settings.axis_name)(x, train=train)
  return logits(x, num_classes, settings)


def classify_embedding(
  x: jax.Array,
  units: int,
  num_classes: int,
  dropout_rate: float,
  settings: LayerSettings,
  train: bool,
) -> jax.Array:
  """FaceNet's end of the network that calls this.

  Global average pool, dropout, a linear layer with batch normalization, softmax layer.

  Args:
    x: [N, H, W, C].
    units: of the linear layer at a width of 1.
    num_classes: 0 for embeddings instead of logits.
    dropout_rate: before the linear layer.
    settings: what all layers have in common.
    train: whether to drop and to use the batch's statistics.

  Returns:
    logits [N, num_classes], or embeddings of length 1 [N, units]; at least float32.
  """
  x = Dropout(dropout_rate, settings.axis_name)(jnp.mean(x, (1, 2)), train=train)
  batch_norm = settings.batch_norm
  x = nn.Dense(
    settings.filters(units),
    use_bias=batch_norm is None,
    dtype=settings.dtype,
    kernel_init=kernel_init,
    dot_general=settings.operations.dot_general,
    promote_dtype=settings.operations.promote_dtype,
    name="embedding",
  )(x).astype(settings.dtype)
  if batch_norm is not None:
    x = batch_norm.copy(name="embedding_batch_norm")(x, train=train)
  if num_classes:
    return logits(x, num_classes, settings)
  x = at_least_float32(x)
  return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class AuxiliaryHead(nn.Module):
  """The head beside Inception-v3's 17×17 maps (arXiv 1512.00567, section 4 and Figure 8).

  A 5×5 average pool with stride 3, a 1×1 convolution, a fully connected layer, written as a
  convolution over the whole 5×5 map, and logits. The paper's figure has 1024 units in the fully
  connected layer; the authors' code, and everyone's after it, has 768. On maps smaller than 5×5
  both windows shrink with the map.
  """

  num_classes: int
  settings: LayerSettings

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, C] → logits [N, num_classes]."""
    settings = self.settings
    window = min(5, *x.shape[1:3])
    x = settings.operations.avg_pool(x, window, 3, "VALID", settings.count_padding)
    x = ConvBlock(128, (1, 1), settings, name="reduce")(x, train=train)
    kernel_size = (min(5, x.shape[1]), min(5, x.shape[2]))
    x = ConvBlock(768, kernel_size, settings, padding="VALID", name="fully_connected")(
      x, train=train
    )
    return logits(jnp.mean(x, (1, 2)), self.num_classes, settings)


def auxiliary(
  network: nn.Module,
  name: str,
  x: jax.Array,
  num_classes: int,
  settings: LayerSettings,
  train: bool,
) -> None:
  """Puts an `AuxiliaryHead` beside `x`; it works in training alone, and leaves its logits."""
  if num_classes and (train or network.is_initializing()):
    head = AuxiliaryHead(num_classes, settings, name=name)
    features.aux_logits(network, name, head(x, train=train))


def logits(x: jax.Array, num_classes: int, settings: LayerSettings) -> jax.Array:
  """The softmax layer of the module that calls this: [N, C] → [N, num_classes]."""
  dense = nn.Dense(
    num_classes,
    dtype=settings.dtype,
    kernel_init=kernel_init,
    dot_general=settings.operations.dot_general,
    promote_dtype=settings.operations.promote_dtype,
    name="logits",
  )
  return at_least_float32(dense(x))


def at_least_float32(x: jax.Array) -> jax.Array:
  """Losses and probabilities need more than bfloat16 has."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
