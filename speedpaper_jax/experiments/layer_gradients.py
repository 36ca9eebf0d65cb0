"""How large the loss's gradient is at each layer, from the input on."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax.data.normalization import DEFAULT, Normalization
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models import layer_names
from speedpaper_jax.models.batch_norm import row_mask
from speedpaper_jax.models.features import AUX_LOGITS
from speedpaper_jax.steps.step import Batch, example_metrics

PyTree = Any


@dataclasses.dataclass(frozen=True)
class LayerGradient:
  """Of one kernel, or of several as one vector.

  Attributes:
    norm: of the loss's gradient, ‖∂ℓ/∂w‖.
    kernel_norm: of the kernel itself, ‖w‖.
  """

  norm: float
  kernel_norm: float

  @property
  def relative(self) -> float:
    """The part of the kernel that a step of rate 1 would move it by."""
    return self.norm / self.kernel_norm


def make_measurement(
  network: nn.Module,
  mesh: Mesh,
  *,
  aux_weight: float = 0.0,
  label_smoothing: float = 0.0,
  seed: int = 0,
  normalization: Normalization = DEFAULT,
) -> Callable[[Mapping[str, PyTree], Batch], dict[str, LayerGradient]]:
  """Builds `measure(variables, batch) → gradients by layer`, which compiles the first time only.

  The network is in training: it normalises with the batch's statistics, and drops units, the same
  ones in each call. L2 is no part of the loss.

  Args:
    network: as training has it under `jit`, see `build.build_model`.
    mesh: the devices.
    aux_weight: of each auxiliary head's cross-entropy in the loss; 0 for the main head's alone.
    label_smoothing: ε, of all heads.
    seed: of the units that are dropped.
    normalization: of the images.

  Returns:
    A function of `params` and `batch_stats`, replicated, and of a batch as `step.batch_template`
    has it, split by rows. The loss is the mean over the rows of mask 1. There is an entry for each
    kernel of a convolution or fully connected layer of the trunk, and of the softmax layer, in the
    order in which the network calls them; its name is that of the layer as `layer_names` chooses
    it, such as "inception_3a/conv_1x1/conv", or of the kernel where a layer has two of them.
    Auxiliary heads' own layers are left out.
  """
  compiled = _compiled(network, mesh, label_smoothing, seed, normalization)

  def measure(variables: Mapping[str, PyTree], batch: Batch) -> dict[str, LayerGradient]:
    found = jax.device_get(compiled((variables, np.float32(aux_weight)), batch))
    order = layers(network, batch["image"].shape)
    return {name: LayerGradient(*map(float, found[name])) for name in order}

  return measure


@functools.cache
def _compiled(
  network: nn.Module, mesh: Mesh, label_smoothing: float, seed: int, normalization: Normalization
) -> jax.stages.Wrapped:
  """The norms as a program, one for all weights of the heads."""

  def mean_loss(
    params: PyTree, batch_stats: PyTree, aux_weight: jax.Array, batch: Batch
  ) -> jax.Array:
    logits, left = network.apply(
      {"params": params, "batch_stats": batch_stats, **row_mask(batch["mask"])},
      normalization.apply(batch["image"]),
      train=True,
      mutable=["batch_stats", AUX_LOGITS],
      rngs={"dropout": jax.random.key(seed)},
    )
    metrics = example_metrics(logits, batch, label_smoothing)
    loss = metrics["loss"]
    for of_head in left.get(AUX_LOGITS, {}).values():
      loss += aux_weight * example_metrics(of_head, batch, label_smoothing)["loss"]
    return loss / jnp.maximum(metrics["count"], 1)

  def norms(
    variables_and_weight: tuple[Mapping[str, PyTree], jax.Array], batch: Batch
  ) -> dict[str, tuple[jax.Array, jax.Array]]:
    variables, aux_weight = variables_and_weight
    params = variables["params"]
    gradients = _kernels(jax.grad(mean_loss)(params, variables["batch_stats"], aux_weight, batch))
    return {
      name: (_norm(gradients[name]), _norm(kernel)) for name, kernel in _kernels(params).items()
    }

  return parallel.jit_on_mesh(norms, mesh)


@functools.cache
def layers(network: nn.Module, image_shape: tuple[int, ...]) -> tuple[str, ...]:
  """The kernels that are measured, from the input on; nothing is computed.

  Args:
    network: any.
    image_shape: [N, H, W, channels].
  """
  names: list[str] = []

  def record(images: jax.Array) -> None:
    # Once it has left a traced function, a mapping is in alphabetical order.
    names.extend(_kernels(network.init(jax.random.key(0), images, train=False)["params"]))

  jax.eval_shape(record, jax.ShapeDtypeStruct(image_shape, jnp.float32))
  return tuple(names)


def by_module(gradients: Mapping[str, LayerGradient]) -> dict[str, LayerGradient]:
  """The kernels of each module of the network as one vector, such as all of "inception_3a"."""
  modules: dict[str, list[LayerGradient]] = {}
  for name, gradient in gradients.items():
    modules.setdefault(name.partition("/")[0], []).append(gradient)
  return {name: together(parts) for name, parts in modules.items()}


def together(parts: Collection[LayerGradient]) -> LayerGradient:
  """Several kernels as one vector."""
  return LayerGradient(
    math.hypot(*(part.norm for part in parts)), math.hypot(*(part.kernel_norm for part in parts))
  )


def _kernels(params: PyTree) -> dict[str, jax.Array]:
  flat = flax.traverse_util.flatten_dict(params)
  return {
    "/".join(path[:-1] if path[-1] == "kernel" else path): kernel
    for path, kernel in flat.items()
    if path[-1].endswith("kernel") and path[0] not in layer_names.AUXILIARY_HEADS
  }


def _norm(x: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32)))))
