"""Training steps of our network of a pair."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.interop import tensors
from speedpaper_jax.interop.measurements import AUX_WEIGHT, Arrays, Gradients, ten_steps
from speedpaper_jax.interop.pair import Pair
from speedpaper_jax.models import features
from speedpaper_jax.steps import optim

PyTree = Any


class OurTraining:
  """What `measurements.Reference` has of training, for our network."""

  def __init__(self, pair: Pair, dtype: Any) -> None:
    """Prepares training of `pair` in `dtype`, float64 under `jax.enable_x64`."""
    self._pair = pair
    self._dtype = dtype
    self._network = pair.network_in(dtype)
    self._table = tensors.tensors(pair.network, pair.names, pair.image_size)
    self._variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), pair.variables())

  def _step(self, variables: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    inputs = self._pair.normalization.apply(images, self._dtype)
    params, batch_stats = variables["params"], variables["batch_stats"]
    return _loss_and_gradient(self._network, params, batch_stats, inputs, labels)

  def gradients(self, images: np.ndarray, labels: np.ndarray) -> Gradients:
    """Of one batch: RGB uint8 [N, H, W, 3] and labels [N]."""
    (loss, (heads, batch_stats)), grads = self._step(self._variables, images, labels)
    return Gradients(
      float(loss),
      jax.device_get(heads),
      self._named({"params": grads}),
      self._named({"batch_stats": batch_stats}),
    )

  def train(
    self, optimizer: str, rate: float, images: np.ndarray, labels: np.ndarray
  ) -> Iterator[Arrays]:
    """Parameters after each step on RGB uint8 [batches, N, H, W, 3], labels [batches, N]."""
    config = train_config().optimizer
    config.name = optimizer
    transformation = optim.make_optimizer(config, lambda _: rate)
    update = jax.jit(transformation.update)
    variables = self._variables
    state = transformation.init(variables["params"])
    for batch, batch_labels in ten_steps(images, labels):
      (_, (_, batch_stats)), grads = self._step(variables, batch, batch_labels)
      updates, state = update(grads, state, variables["params"])
      params = optax.apply_updates(variables["params"], updates)
      variables = {"params": params, "batch_stats": batch_stats}
      yield self._named({"params": params})

  def _named(self, variables: Mapping[str, PyTree]) -> Arrays:
    """Under PyTorch's names and in its layout."""
    table = [tensor for tensor in self._table if tensor.ours[0] in variables]
    named = tensors.to_torch(jax.device_get(variables), table, steps=0)
    return {tensor.theirs: named[tensor.theirs] for tensor in table}


@functools.partial(jax.jit, static_argnums=0)
def _loss_and_gradient(
  network: nn.Module, params: PyTree, batch_stats: PyTree, inputs: jax.Array, labels: jax.Array
) -> Any:
  def loss_of(params: PyTree) -> tuple[jax.Array, Any]:
    logits, left = network.apply(
      {"params": params, "batch_stats": batch_stats},
      inputs,
      train=True,
      mutable=["batch_stats", features.AUX_LOGITS],
    )
    heads = {"logits": logits, **left.get(features.AUX_LOGITS, {})}
    losses = {
      head: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(values, labels))
      for head, values in heads.items()
    }
    loss = losses.pop("logits") + AUX_WEIGHT * sum(losses.values())
    return loss, (heads, left["batch_stats"])

  return jax.value_and_grad(loss_of, has_aux=True)(params)
