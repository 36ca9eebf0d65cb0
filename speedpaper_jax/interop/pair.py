"""A network and another package's on the same weights, which tell real images apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from speedpaper_jax import models
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.interop import references, tensors
from speedpaper_jax.interop.keras_reference import KerasReference
from speedpaper_jax.interop.measurements import Reference
from speedpaper_jax.interop.names import Names
from speedpaper_jax.interop.torch_reference import TorchReference
from speedpaper_jax.models import ops, registry
from speedpaper_jax.models.layers import LayerSettings

PyTree = Any


@dataclasses.dataclass
class Pair:
  """The two networks and what they are compared on.

  Attributes:
    model: our name.
    names: of the other implementation.
    network: ours.
    normalization: that our network's input gets.
    reference: theirs.
    image_size: pixels, height and width.
  """

  model: str
  names: Names
  network: nn.Module
  normalization: Normalization
  reference: Reference
  image_size: int

  def network_in(self, dtype: Any) -> nn.Module:
    """Our network with activations and arithmetic in `dtype`."""
    settings = dataclasses.replace(self.network.settings, dtype=dtype)
    return self.network.clone(settings=settings)

  def variables(self) -> dict[str, PyTree]:
    """The reference's weights as ours."""
    table = tensors.tensors(self.network, self.names, self.image_size)
    return tensors.from_torch(self.reference.tensors(), table, self.names.source)


def make_pair(
  model: str,
  names: Names,
  num_classes: int,
  image_size: int,
  state_dict: Mapping[str, np.ndarray] | None = None,
) -> Pair:
  """Builds both networks.

  Args:
    model: our name.
    names: of the other implementation.
    num_classes: of both.
    image_size: pixels; auxiliary heads are built where the images are large enough for theirs.
    state_dict: weights; None for the reference's own random ones.

  Raises:
    UserError: a package is not installed, or the weights are of another network.
  """
  with_aux = bool(names.aux) and image_size >= names.aux_image_size
  if state_dict is not None:
    heads = tuple(names.aux.values())
    with_aux = with_aux and any(name.startswith(heads) for name in state_dict)
    if not with_aux:  # their heads fit one image size alone
      state_dict = {name: state_dict[name] for name in state_dict if not name.startswith(heads)}
  settings = LayerSettings(
    registry.find_dialect(model, names.dialect).batch_norm, operations=ops.CPU
  )
  options: dict[str, Any] = {
    "dropout_rate": 0.0,
    "aux_dropout_rate": 0.0,
    "use_aux_heads": with_aux,
  }
  network = models.create(
    model,
    names.dialect,
    num_classes=num_classes,
    settings=settings,
    **{field: value for field, value in options.items() if registry.has_field(model, field)},
  )
  if state_dict is not None:
    table = tensors.tensors(network, names, image_size)
    tensors.from_torch(state_dict, table, "the file of weights")  # names what does not fit
    state_dict = {tensor.theirs: state_dict[tensor.theirs] for tensor in table}
  reference = _reference(model, names, num_classes, image_size, with_aux, state_dict)
  return Pair(model, names, network, names.normalization, reference, image_size)


def _reference(
  model: str,
  names: Names,
  num_classes: int,
  image_size: int,
  with_aux: bool,
  state_dict: Mapping[str, np.ndarray] | None,
) -> Reference:
  reference: Reference
  if names.in_torch:
    references.import_package("torch").manual_seed(0)
    module = references.build(model, names, num_classes, with_aux)
    reference = TorchReference(model, names, module)
  else:
    reference = KerasReference(model, names, num_classes, image_size)
  if state_dict is not None:
    reference.load(state_dict)
  return reference
