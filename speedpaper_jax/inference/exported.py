"""A trained network as one program, images → probabilities, that runs without this package.

It is StableHLO as `jax.export` keeps it, with the weights in it, for batches of any size and for
several platforms.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import lax

import speedpaper_jax
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.model_directory import LoadedModel
from speedpaper_jax.inference.prediction import class_names
from speedpaper_jax.models import folding, ops
from speedpaper_jax.steps import optim

PyTree = Any

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
INPUTS = ("pixels", "normalized")


def export(
  model: LoadedModel,
  *,
  inputs: str = "pixels",
  dtype: str = "float32",
  platforms: Sequence[str] = PLATFORMS,
) -> tuple[bytes, dict[str, Any]]:
  """Makes the program of a network, with its batch normalizations folded where they can be.

  Args:
    model: the network.
    inputs: one of `INPUTS`: RGB values from 0 to 255 in the dtype that the model's crop gives, or
      float32 as its normalization makes them.
    dtype: of the network's arithmetic and kernels, "float32" or "bfloat16".
    platforms: some of `PLATFORMS`.

  Returns:
    What `jax.export.deserialize` reads, whose `call` takes images [b, H, W, 3] and gives
    probabilities, float32 [b, num_classes]; and what describes it, as JSON has it.

  Raises:
    UserError: the network has no classes, or does not fit images of this size.
  """
  description = model.description
  if not description.num_classes:
    raise UserError(f"The network {description.name} was saved without classes to export.")
  crop, normalization = description.preprocessing.crop, description.preprocessing.normalization
  network, variables = folding.fold_batch_norm(model.network, jax.device_get(model.variables))
  settings = dataclasses.replace(network.settings, dtype=jnp.dtype(dtype))
  network, variables = network.clone(settings=settings), _with_kernels_of(dtype, variables)

  def probabilities(images: jax.Array) -> jax.Array:
    if inputs == "pixels":
      images = normalization.apply(images)
    return lax.platform_dependent(
      variables, images, cpu=_softmax(network, ops.CPU), default=_softmax(network, ops.ACCELERATOR)
    )

  (batch,) = jax.export.symbolic_shape("b")
  pixels = jax.ShapeDtypeStruct(
    (batch, *crop.shape), crop.dtype if inputs == "pixels" else np.float32
  )
  program = jax.export.export(jax.jit(probabilities), platforms=tuple(platforms))(pixels)
  serialized = bytes(program.serialize())
  return serialized, {
    "format": FORMAT,
    "sha256": hashlib.sha256(serialized).hexdigest(),
    "network": description.name,
    "dialect": description.dialect,
    "source": description.source,
    "inputs": {"values": inputs, **_array(program.in_avals[0])},
    "outputs": {"values": "probabilities", **_array(program.out_avals[0])},
    "arithmetic": dtype,
    "platforms": list(program.platforms),
    "preprocessing": description.preprocessing.to_json(),
    "class_names": class_names(description),
    "versions": {"speedpaper_jax": speedpaper_jax.__version__, "jax": jax.__version__},
  }


def check_platforms(platforms: Sequence[str]) -> None:
  """Raises a UserError unless they are some of `PLATFORMS`, each once."""
  for name in platforms:
    if name not in PLATFORMS:
      raise UserError(f"There is no platform '{name}'; take some of {', '.join(PLATFORMS)}.")
  if len(set(platforms)) < len(platforms):
    raise UserError("A platform is named twice; name each once.")


def _softmax(
  network: nn.Module, operations: ops.Operations
) -> Callable[[Mapping[str, PyTree], jax.Array], jax.Array]:
  """The network in the form that is fast on one kind of platform."""
  settings = dataclasses.replace(network.settings, operations=operations)
  in_this_form = network.clone(settings=settings)

  def softmax(variables: Mapping[str, PyTree], images: jax.Array) -> jax.Array:
    logits: Any = in_this_form.apply(variables, images, train=False)
    return jax.nn.softmax(logits)

  return softmax


def _with_kernels_of(dtype: str, variables: dict[str, PyTree]) -> dict[str, PyTree]:
  """The same with kernels as the arithmetic would round them, so that the file is smaller."""
  kernels = jax.tree.map(
    lambda values, is_kernel: values.astype(jnp.dtype(dtype)) if is_kernel else values,
    variables["params"],
    optim.kernel_mask(variables["params"]),
  )
  return {**variables, "params": kernels}


def _array(array: jax.core.ShapedArray) -> dict[str, Any]:
  shape = [side if isinstance(side, int) else str(side) for side in array.shape]
  return {"shape": shape, "dtype": array.dtype.name}
