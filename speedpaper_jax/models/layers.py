"""The layers that every network of the family is made of."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from speedpaper_jax.models import features, ops, packed_images
from speedpaper_jax.models.batch_norm import BatchNorm, MaxPool
from speedpaper_jax.models.packed_images import Packing

# All of them keep the order of values, by which a max pool can as well come first.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "relu": nn.relu,
  "sigmoid": nn.sigmoid,
  "tanh": nn.tanh,
}


@dataclasses.dataclass(frozen=True)
class LayerSettings:
  """What all layers of a network have in common.

  Attributes:
    batch_norm: copied before each nonlinearity (section 3.2 of the BN paper), where it takes the
      place of the convolution's bias; None for biases.
    activation: a key of `ACTIVATIONS`.
    dtype: of activations and arithmetic; parameters stay in float32.
    operations: the form of convolution and pooling.
    axis_name: the mapped axis over devices that the network runs under, if any, so that random
      draws belong to the rows of the global batch.
    bias_before_batch_norm: whether convolutions keep their bias although β makes it superfluous.
    count_padding: whether average pools count their padding; see `ops.avg_pool`.
    channels: of the images; 3 are RGB.
    width: number of filters of each layer, as a part of its paper's; softmax layers are not
      concerned.
    devices: that the rows of a batch are divided over, without a mapped axis.
    packing: how the images that a layer takes and gives lie side by side, if they do.
  """

  batch_norm: BatchNorm | None = dataclasses.field(default_factory=BatchNorm)
  activation: str = "relu"
  dtype: jnp.dtype = jnp.float32
  operations: ops.Operations = ops.PLAIN
  axis_name: str | None = None
  bias_before_batch_norm: bool = False
  count_padding: bool = False
  channels: int = 3
  width: float = 1.0
  devices: int = 1
  packing: Packing | None = None

  def filters(self, papers: int) -> int:
    """Filters, or units, of a layer that has so many in its paper."""
    return max(1, round(self.width * papers))


def kernel_init(
  key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
  """Truncated normal with variance 2 / fan-in (He et al., arXiv 1502.01852).

  The papers do not say how weights are initialised. This keeps the variance of rectified
  activations the same from layer to layer. It is drawn on the host, because XLA takes ten seconds
  to compile as many generators as a network has layers.
  """
  # 0.8796 is the standard deviation of a normal distribution cut off at two of its own.
  std = np.sqrt(2 / np.prod(shape[:-1])) / 0.87962566

  def draw(seed: jax.Array) -> np.ndarray:
    generator = np.random.default_rng(np.asarray(seed).tolist())
    values = generator.standard_normal(shape, np.float32)
    while (outside := np.abs(values) > 2).any():
      values[outside] = generator.standard_normal(np.count_nonzero(outside), np.float32)
    return values * np.float32(std)

  drawn = jax.pure_callback(
    draw,
    jax.ShapeDtypeStruct(shape, jnp.float32),
    jax.random.key_data(key),
    vmap_method="sequential",
  )
  return drawn.astype(dtype)


def network_input(images: jax.Array, settings: LayerSettings) -> jax.Array:
  """What the first layer of every network of images takes: [N, H, W, channels] of their dtype.

  Raises:
    ValueError: they are no batch of normalised images with so many channels, channels last.
  """
  channels = settings.channels
  if images.ndim != 4 or images.shape[-1] != channels:
    kind = {1: "images of 1 channel", 3: "RGB images"}.get(
      channels, f"images of {channels} channels"
    )
    raise ValueError(
      f"Images of shape {images.shape} are no batch of {kind}, [N, H, W, {channels}]; give even a "
      f"single one a batch axis, images[None], and create the network with channels=… where they "
      f"have another number of channels."
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f"Images of {images.dtype} are not normalised; apply the model's normalization first."
    )
  return images.astype(settings.dtype)


class Dropout(nn.Module):
  """Dropout whose mask for a row depends on the row's place in the global batch alone.

  `nn.Dropout` draws one mask for all the rows it sees, so that under a mapped axis the draw would
  depend on how the batch is divided.

  Attributes:
    rate: probability of a zero.
    axis_name: the mapped axis over devices, if any.
  """

  rate: float
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, ...] → [N, ...]; in training it needs a "dropout" key, the same on all devices."""
    if not train or self.rate == 0:
      return x
    first = 0 if self.axis_name is None else lax.axis_index(self.axis_name) * x.shape[0]
    rows = first + jnp.arange(x.shape[0])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), rows)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))


class SeparableConv(nn.Module):
  """Filters on each input channel alone, then a 1×1 convolution; a bias where there is no BN.

  Attributes:
    features: number of filters of the 1×1 convolution.
    kernel_size: height and width of the depthwise one.
    depth_multiplier: number of depthwise filters on each input channel.
    settings: what all layers have in common.
    strides: in both directions.
    padding: see `ops`.
  """

  features: int
  kernel_size: tuple[int, int]
  depth_multiplier: int
  settings: LayerSettings
  strides: int
  padding: ops.Padding

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[N, H, W, C] → [N, H', W', features]."""
    settings, filters = self.settings, x.shape[-1] * self.depth_multiplier
    depthwise = self.param("depthwise_kernel", kernel_init, (*self.kernel_size, 1, filters))
    pointwise = self.param("pointwise_kernel", kernel_init, (1, 1, filters, self.features))
    operations = settings.operations
    x, depthwise, pointwise = operations.promote_dtype(
      x, depthwise, pointwise, dtype=settings.dtype
    )
    x = operations.separable_conv(x, depthwise, pointwise, self.strides, self.padding)
    if settings.batch_norm is None:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      x, bias = operations.promote_dtype(x, bias, dtype=settings.dtype)
      x += bias
    return x


class ConvBlock(nn.Module):
  """z = g(BN(Wu)): convolution, batch normalization, nonlinearity.

  Attributes:
    features: number of filters at a width of 1.
    kernel_size: height and width.
    settings: what all layers have in common.
    strides: in both directions.
    padding: see `ops`.
    depth_multiplier: of a separable convolution; None for a dense one.
    after_avg_pool: whether an average pool over 3×3 windows stands in front of a 1×1 convolution.
  """

  features: int
  kernel_size: tuple[int, int]
  settings: LayerSettings
  strides: int = 1
  padding: ops.Padding = "SAME"
  depth_multiplier: int | None = None
  after_avg_pool: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    convolved: jax.Array | None = None,
    max_pool: MaxPool | None = None,
  ) -> jax.Array:
    """Applies the layer.

    Args:
      x: [N, H, W, C].
      train: whether to use the batch's statistics.
      convolved: what the convolution of `x` gives, where that is known; see `apply_siblings`.
      max_pool: what follows, to be computed before the normalization; see `apply_and_pool`.

    Returns:
      [N, H', W', filters].
    """
    settings, batch_norm = self.settings, self.settings.batch_norm
    filters = settings.filters(self.features)
    conv = settings.operations.conv
    if convolved is not None:

      def conv(*_: Any, **__: Any) -> jax.Array:
        return convolved

    if settings.packing is not None:
      conv, x = settings.packing.conv(conv, x), x[..., : x.shape[-1] // settings.packing.images]
    if self.after_avg_pool and settings.operations.reorders(x.shape):
      conv = self._pooled(conv)
    elif self.after_avg_pool:
      x = self._avg_pool(x)
    if self.depth_multiplier is None:
      convolution: nn.Module = nn.Conv(
        filters,
        self.kernel_size,
        (self.strides, self.strides),
        self.padding,
        use_bias=batch_norm is None or settings.bias_before_batch_norm,
        dtype=settings.dtype,
        kernel_init=kernel_init,
        conv_general_dilated=conv,
        promote_dtype=settings.operations.promote_dtype,
        name="conv",
      )
    else:
      convolution = SeparableConv(
        filters,
        self.kernel_size,
        self.depth_multiplier,
        settings,
        self.strides,
        self.padding,
        name="conv",
      )
    x = convolution(x).astype(settings.dtype)
    features.linear_output(self, x)
    if batch_norm is not None:
      x = batch_norm.copy(name="batch_norm")(
        x, train=train, max_pool=max_pool, packing=settings.packing
      )
    features.nonlinearity_input(self, x)
    return ACTIVATIONS[settings.activation](x)

  def _avg_pool(self, x: jax.Array) -> jax.Array:
    return self.settings.operations.avg_pool(x, 3, 1, "SAME", self.settings.count_padding)

  def _pooled(self, conv: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The convolution and the pool after it; the layer's bias is added later, and not pooled."""
    assert (*self.kernel_size, self.strides) == (1, 1, 1)
    return lambda *arguments, **named: self._avg_pool(conv(*arguments, **named))


def apply_and_pool(
  network: nn.Module, block: ConvBlock, x: jax.Array, max_pool: MaxPool, *, train: bool
) -> jax.Array:
  """A layer and the max pool behind it, which a fast form computes before the normalization.

  Args:
    network: the module that calls this, of which the layer is a stage.
    block: the layer, with a name.
    x: [N, H, W, C].
    max_pool: [N, H', W', filters] → [N, H'', W'', filters].
    train: whether to use the batch's statistics.

  Returns:
    [N, H'', W'', filters].
  """
  settings, batch_norm = block.settings, block.settings.batch_norm
  if (
    settings.operations.reorders(x.shape)
    and batch_norm is not None
    and not batch_norm.per_activation_layers
    and not features.are_asked_for(network)
  ):
    return block(x, train=train, max_pool=max_pool)
  return max_pool(features.stage(network, str(block.name), block(x, train=train)))


def choose_packing(
  network: nn.Module, filters: int, settings: LayerSettings, rows: int, *, train: bool
) -> Packing | None:
  """How images lie side by side in the first layers of a network, where that is faster.

  Args:
    network: the module that calls this, of which the layers are stages.
    filters: of the first of them, in its paper.
    settings: what they have in common.
    rows: N, of the batch.
    train: whether they use the batch's statistics.
  """
  batch_norm, channels_at_once = settings.batch_norm, settings.operations.channels_at_once
  if (
    channels_at_once == 1
    or batch_norm is None
    or settings.bias_before_batch_norm
    or batch_norm.per_activation_layers
    or network.is_initializing()
    or features.are_asked_for(network)
  ):
    return None
  groups = max(1, rows // (batch_norm.virtual_batch_size or rows)) if train else 1
  return packed_images.choose(
    channels_at_once, settings.filters(filters), rows, groups, settings.devices
  )


def apply_siblings(
  parent: nn.Module, siblings: Sequence[ConvBlock], x: jax.Array, *, train: bool
) -> dict[str, jax.Array]:
  """1×1 convolutions of the same input, which a fast form computes as one.

  Args:
    parent: the module that calls this, of which they are a part.
    siblings: with names, without strides.
    x: [N, H, W, C].
    train: whether to use the batch's statistics.

  Returns:
    Name → [N, H, W, filters].
  """
  settings = siblings[0].settings
  operations = settings.operations
  names = [str(block.name) for block in siblings]
  convolved = {}
  # There are no kernels yet while a network is initialised.
  if (
    operations.reorders(x.shape)
    and len(names) > 1
    and settings.packing is None
    and not parent.is_initializing()
  ):
    kernels = [parent.variables["params"][name]["conv"]["kernel"] for name in names]
    inputs, *kernels = operations.promote_dtype(x, *kernels, dtype=settings.dtype)
    with jax.named_scope("siblings"):
      together = operations.conv(
        inputs,
        jnp.concatenate(kernels, -1),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
      ends = np.cumsum([kernel.shape[-1] for kernel in kernels])[:-1]
      convolved = dict(zip(names, jnp.split(together, ends, -1), strict=True))
  return {
    str(block.name): block(x, train=train, convolved=convolved.get(str(block.name)))
    for block in siblings
  }
