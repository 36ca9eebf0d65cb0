"""Training steps of both networks of a pair, on the same batches."""

import copy
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.interop import references, tensors
from speedpaper_jax.interop.pair import Pair
from speedpaper_jax.models import features
from speedpaper_jax.steps import optim

PyTree = Any
Arrays = dict[str, np.ndarray]

AUX_WEIGHT = 0.4
STEPS = 10
OPTIMIZERS = ("sgd", "rmsprop")
# Length of the first step of SGD, by that of all parameters. Where batches are small, ten steps of
# ten times this length amplify rounding errors beyond any limit, in any program.
FIRST_STEP = 2e-7


@dataclasses.dataclass(frozen=True)
class Gradients:
  """What one training step computes before the optimiser.

  Attributes:
    loss: mean cross-entropy, auxiliary heads' times `AUX_WEIGHT` added.
    logits: of the network and of each auxiliary head.
    grads: of each parameter, under its PyTorch name and in its PyTorch layout.
    batch_stats: running statistics after the step, likewise.
  """

  loss: float
  logits: Arrays
  grads: Arrays
  batch_stats: Arrays


def _ten_steps(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """The batches again and again."""
  for step in range(STEPS):
    batch = step % len(images)
    yield images[batch], labels[batch]


def learning_rate(parameters: Arrays, grads: Arrays) -> float:
  """The rate with which the first step of SGD is `FIRST_STEP` long."""

  def norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.sum(np.square(values)) for values in arrays.values())))

  return FIRST_STEP * norm(parameters) / norm(grads)


class OurTraining:
  """The JAX side."""

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
    for batch, batch_labels in _ten_steps(images, labels):
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


class TheirTraining:
  """The PyTorch side."""

  def __init__(self, pair: Pair, dtype: str) -> None:
    """Prepares training of a copy of the pair's reference in "float64" or "float32"."""
    self._pair = pair
    self._torch = references.import_package("torch")
    self._dtype = getattr(self._torch, dtype)

  def _backward(self, module: Any, images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    torch = self._torch
    module.train()
    module.zero_grad()
    inputs = references.preprocess(self._pair.model, self._pair.names, images)
    outputs = module(inputs.to(self._dtype))
    logits, aux = references.split_logits(self._pair.names, outputs)
    targets = torch.from_numpy(labels.astype(np.int64))
    loss = torch.nn.functional.cross_entropy(logits, targets)
    for head in aux.values():
      loss = loss + AUX_WEIGHT * torch.nn.functional.cross_entropy(head, targets)
    loss.backward()
    return loss, {"logits": logits, **aux}

  def parameters(self) -> Arrays:
    """A copy of the parameters before training."""
    named = self._pair.reference.named_parameters()
    return {name: values.detach().numpy().copy() for name, values in named}

  def gradients(self, images: np.ndarray, labels: np.ndarray) -> Gradients:
    """Of one batch: RGB uint8 [N, H, W, 3] and labels [N]."""
    module = copy.deepcopy(self._pair.reference).to(self._dtype)
    loss, heads = self._backward(module, images, labels)
    return Gradients(
      float(loss.detach()),
      {head: logits.detach().numpy() for head, logits in heads.items()},
      {name: parameter.grad.numpy() for name, parameter in module.named_parameters()},
      {
        name: buffer.numpy()
        for name, buffer in module.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
      },
    )

  def train(
    self, optimizer: str, rate: float, images: np.ndarray, labels: np.ndarray
  ) -> Iterator[Arrays]:
    """Parameters after each step on RGB uint8 [batches, N, H, W, 3], labels [batches, N]."""
    module = copy.deepcopy(self._pair.reference).to(self._dtype)
    torch_optimizer = self._optimizer(optimizer, module.parameters(), rate)
    for batch, batch_labels in _ten_steps(images, labels):
      self._backward(module, batch, batch_labels)
      torch_optimizer.step()
      yield {name: value.detach().numpy() for name, value in module.named_parameters()}

  def _optimizer(self, name: str, parameters: Any, rate: float) -> Any:
    if name == "sgd":
      return self._torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    optimizers = references.import_package("timm.optim")
    return optimizers.RMSpropTF(
      parameters, lr=rate, alpha=0.9, eps=1.0, momentum=0.9, lr_in_momentum=True
    )
