"""A network with its batch normalizations folded into the layers before them, for inference.

With fixed statistics a batch normalization is linear, y = m·x + (β − m·E[x]) with
m = γ / √(Var[x] + ε) (arXiv 1502.03167, Algorithm 2, line 11), and so is what comes before it:
m goes into the kernel, the rest becomes a bias. The network then is the one that has biases in the
place of batch normalizations.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from speedpaper_jax.models import layer_names

PyTree = Any

# A batch normalization's name → that of the layer before it, in the same module.
_NORMALIZED = {"batch_norm": "conv", "embedding_batch_norm": "embedding"}


def fold_batch_norm(
  network: nn.Module, variables: Mapping[str, PyTree]
) -> tuple[nn.Module, dict[str, PyTree]]:
  """Folds the batch normalizations, and leaves the auxiliary heads out.

  The products are taken in float64 and rounded once. Where a batch normalization is per activation,
  as `per_activation_layers` tells, there is no kernel that has a factor for each place of the map,
  and the network stays whole as it is.

  Args:
    network: from `models.create`; of any dialect, with batch normalization or without.
    variables: `params` and `batch_stats`, on devices or on the host.

  Returns:
    The network, and its `params` on the host, in the dtypes that they had: with `train=False` it
    gives what the other gives, stages included.
  """
  if per_activation_layers(variables):
    return network, dict(variables)
  params, statistics = (
    _without_auxiliary_heads(variables.get(collection, {}))
    for collection in ("params", "batch_stats")
  )
  for path in sorted({path[:-1] for path in statistics}):
    layer = (*path[:-1], _NORMALIZED[path[-1]])
    _fold(params, statistics, path, layer, network.settings.batch_norm.epsilon)
  changes: dict[str, Any] = {"settings": dataclasses.replace(network.settings, batch_norm=None)}
  if hasattr(network, "use_aux_heads"):
    changes["use_aux_heads"] = False
  return network.clone(**changes), {"params": traverse_util.unflatten_dict(params)}


def per_activation_layers(variables: Mapping[str, PyTree]) -> list[str]:
  """Names of the batch normalizations that have a γ and a β for each place of a map."""
  statistics = traverse_util.flatten_dict(variables.get("batch_stats", {}))
  return sorted({"/".join(path[:-1]) for path, values in statistics.items() if values.ndim > 1})


def _fold(
  params: dict[tuple[str, ...], np.ndarray],
  statistics: Mapping[tuple[str, ...], np.ndarray],
  batch_norm: tuple[str, ...],
  layer: tuple[str, ...],
  epsilon: float,
) -> None:
  """Puts the batch normalization at one path into the layer at the other."""
  mean, var = (statistics[*batch_norm, name].astype(np.float64) for name in ("mean", "var"))
  scale, shift = (params.pop((*batch_norm, name), None) for name in ("scale", "bias"))
  multiplier = (1 if scale is None else scale.astype(np.float64)) / np.sqrt(var + epsilon)
  # Of a separable convolution, the one that gives the outputs.
  name = "pointwise_kernel" if (*layer, "pointwise_kernel") in params else "kernel"
  kernel, own_bias = params[*layer, name], params.get((*layer, "bias"), 0)
  bias = multiplier * (own_bias - mean) + (0 if shift is None else shift)
  params[*layer, name] = (kernel * multiplier).astype(kernel.dtype)
  params[*layer, "bias"] = bias.astype(kernel.dtype)


def _without_auxiliary_heads(collection: PyTree) -> dict[tuple[str, ...], np.ndarray]:
  flat = traverse_util.flatten_dict(collection)
  return {
    path: np.asarray(values)
    for path, values in flat.items()
    if path[0] not in layer_names.AUXILIARY_HEADS
  }
