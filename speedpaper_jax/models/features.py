"""What is found inside a network: outputs of its stages, auxiliary logits, nonlinearities' inputs.

A network leaves them in Flax collections of their own, which cost nothing where they are not asked
for. A module that has a network inside takes the stages from `stage_outputs`.
"""

import contextvars
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax

from speedpaper_jax.errors import UserError

FEATURES = "features"
AUX_LOGITS = "aux_logits"
LINEAR_OUTPUTS = "linear_outputs"
NONLINEARITY_INPUTS = "nonlinearity_inputs"

# Where `stage_outputs` waits for them.
_awaited: contextvars.ContextVar[dict[str, jax.Array] | None] = contextvars.ContextVar(
  "awaited", default=None
)


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
  awaited = _awaited.get()
  if awaited is not None:
    awaited[name] = x
  return x


def are_asked_for(network: nn.Module) -> bool:
  """Whether outputs of stages, or what is before and behind a normalization, are to be left."""
  collections = (FEATURES, LINEAR_OUTPUTS, NONLINEARITY_INPUTS)
  return _awaited.get() is not None or any(map(network.is_mutable_collection, collections))


def aux_logits(network: nn.Module, name: str, logits: jax.Array) -> None:
  """Leaves the logits of an auxiliary head, [N, num_classes], for the loss."""
  _leave(network, AUX_LOGITS, name, logits)


def linear_output(layer: nn.Module, x: jax.Array) -> None:
  """Leaves a layer's Wu, or Wu + b, before any normalization, [N, ..., C]."""
  _leave(layer, LINEAR_OUTPUTS, "x", x)


def nonlinearity_input(layer: nn.Module, x: jax.Array) -> None:
  """Leaves what a layer's nonlinearity is applied to, [N, ..., C]: BN(Wu), or Wu + b."""
  _leave(layer, NONLINEARITY_INPUTS, "x", x)


def _leave(network: nn.Module, collection: str, name: str, x: jax.Array) -> None:
  # `init` returns parameters and statistics alone.
  if network.is_mutable_collection(collection) and not network.is_initializing():
    network.put_variable(collection, name, x)


def stage_outputs(network: nn.Module, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
  """Outputs of all stages, for a module that has the network inside; also while it is initialised.

  Args:
    network: from `models.create`, a submodule of the module that calls this.
    images: [N, H, W, channels], normalised.
    train: as the network takes it.

  Returns:
    Stage → [N, H', W', C], from the first to the last.
  """
  stages: dict[str, jax.Array] = {}
  token = _awaited.set(stages)
  try:
    network(images, train=train)
  finally:
    _awaited.reset(token)
  return stages


def extract_features(
  network: nn.Module, variables: Mapping[str, Any], images: jax.Array
) -> dict[str, jax.Array]:
  """Outputs of all stages in inference.

  Args:
    network: from `models.create`.
    variables: `params` and `batch_stats`.
    images: [N, H, W, channels], normalised as the network's model directory says.

  Returns:
    Stage → [N, H', W', C], such as "inception_3a" or "mixed_6e"; the names that the network's
    modules have.
  """
  _, left = network.apply(variables, images, train=False, mutable=[FEATURES])
  return dict(left[FEATURES])


def nonlinearity_inputs(
  network: nn.Module, variables: Mapping[str, Any], inputs: jax.Array, *, train: bool
) -> dict[str, jax.Array]:
  """Inputs of all nonlinearities.

  Args:
    network: a module of this package.
    variables: `params` and `batch_stats`.
    inputs: [N, ...].
    train: whether to normalise with the statistics of `inputs` themselves.

  Returns:
    Layer → [N, ..., C], such as "inception_3a/conv_1x1" or "hidden_1", from the input on.
  """
  _, nonlinearity_inputs = linear_outputs_and_nonlinearity_inputs(
    network, variables, inputs, train=train
  )
  return nonlinearity_inputs


def linear_outputs_and_nonlinearity_inputs(
  network: nn.Module, variables: Mapping[str, Any], inputs: jax.Array, *, train: bool
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """What is before and what is behind the normalization of each layer; see `nonlinearity_inputs`.

  Without batch normalization they are the same.
  """
  _, left = network.apply(
    variables, inputs, train=train, mutable=[LINEAR_OUTPUTS, NONLINEARITY_INPUTS, "batch_stats"]
  )

  def by_layer(collection: str) -> dict[str, jax.Array]:
    flat = flax.traverse_util.flatten_dict(left[collection], sep="/")
    return {name.removesuffix("/x"): x for name, x in flat.items()}

  return by_layer(LINEAR_OUTPUTS), by_layer(NONLINEARITY_INPUTS)
