"""Fully connected networks, for the small experiments of the Batch Normalization paper."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from flax.typing import Initializer

from speedpaper_jax.models import features
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ACTIVATIONS


class HiddenLayer(nn.Module):
  """z = g(BN(Wu)), or z = g(Wu + b) without batch normalization (section 3.2).

  Attributes: see `MLP`.
  """

  units: int
  activation: str
  batch_norm: BatchNorm | None
  use_bias: bool
  kernel_init: Initializer
  bias_init: Initializer

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, inputs] → [N, units]."""
    x = nn.Dense(
      self.units,
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      bias_init=self.bias_init,
      name="dense",
    )(x)
    features.linear_output(self, x)
    if self.batch_norm is not None:
      x = self.batch_norm.copy(name="batch_norm")(x, train=train)
    features.nonlinearity_input(self, x)
    return ACTIVATIONS[self.activation](x)


class MLP(nn.Module):
  """Hidden layers of equal kind, and a linear layer at the end.

  The same key draws the same kernels with and without batch normalization.

  Attributes:
    hidden_units: of each hidden layer.
    outputs: units of the linear layer; 0 leaves it out.
    activation: a key of `ACTIVATIONS`.
    batch_norm: copied before each nonlinearity; None for none.
    input_batch_norm: whether the network's input is normalised by another copy of it.
    use_bias: of the hidden layers; β makes it superfluous.
    kernel_init: of all layers.
    bias_init: of all layers.
  """

  hidden_units: Sequence[int]
  outputs: int
  activation: str = "relu"
  batch_norm: BatchNorm | None = None
  input_batch_norm: bool = False
  use_bias: bool = True
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, inputs] → [N, outputs], or [N, the last layer's units]."""
    if self.input_batch_norm and self.batch_norm is not None:
      x = self.batch_norm.copy(name="input_batch_norm")(x, train=train)
    for number, units in enumerate(self.hidden_units, 1):
      x = HiddenLayer(
        units,
        self.activation,
        self.batch_norm,
        self.use_bias,
        self.kernel_init,
        self.bias_init,
        name=f"hidden_{number}",
      )(x, train=train)
    if not self.outputs:
      return x
    return nn.Dense(
      self.outputs, kernel_init=self.kernel_init, bias_init=self.bias_init, name="output"
    )(x)
