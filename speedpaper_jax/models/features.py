"""Outputs of the stages inside a network, for those who use it as a backbone, and auxiliary logits.

A network leaves them in the Flax collections "features" and "aux_logits", which cost nothing where
they are not asked for.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from speedpaper_jax.errors import UserError

FEATURES = "features"
AUX_LOGITS = "aux_logits"


def stage(network: nn.Module, name: str, x: jax.Array) -> jax.Array:
  """Names an output of `network` and returns it.

  Raises:
    UserError: it has no pixels.
  """
  if 0 in x.shape[1:3]:
    raise UserError(
      f"The images are too small for {type(network).__name__}: nothing is left of them at {name}; "
      f"take larger ones."
    )
  _leave(network, FEATURES, name, x)
  return x


def aux_logits(network: nn.Module, name: str, logits: jax.Array) -> None:
  """Leaves the logits of an auxiliary head, [N, num_classes], for the loss."""
  _leave(network, AUX_LOGITS, name, logits)


def _leave(network: nn.Module, collection: str, name: str, x: jax.Array) -> None:
  # `init` returns parameters and statistics alone.
  if network.is_mutable_collection(collection) and not network.is_initializing():
    network.put_variable(collection, name, x)


def extract_features(
  network: nn.Module, variables: Mapping[str, Any], images: jax.Array
) -> dict[str, jax.Array]:
  """Outputs of all stages in inference.

  Args:
    network: from `models.create`.
    variables: `params` and `batch_stats`.
    images: [N, H, W, 3], normalised as the network's model directory says.

  Returns:
    Stage → [N, H', W', C], such as "inception_3a" or "mixed_6e"; the names that the network's
    modules have.
  """
  _, left = network.apply(variables, images, train=False, mutable=[FEATURES])
  return dict(left[FEATURES])
