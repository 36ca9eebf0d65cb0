"""A network and another package's on the same weights, which tell real images apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from speedpaper_jax import models
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.interop import references, tensors
from speedpaper_jax.interop.names import Names
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
    reference: theirs, a `torch.nn.Module` in float64 and evaluation mode.
    image_size: pixels, height and width.
  """

  model: str
  names: Names
  network: nn.Module
  normalization: Normalization
  reference: Any
  image_size: int

  def network_in(self, dtype: Any) -> nn.Module:
    """Our network with activations and arithmetic in `dtype`."""
    settings = dataclasses.replace(self.network.settings, dtype=dtype)
    return self.network.clone(settings=settings)

  def variables(self) -> dict[str, PyTree]:
    """The reference's weights as ours."""
    table = tensors.tensors(self.network, self.names, self.image_size)
    return tensors.from_torch(state_dict_of(self.reference), table, self.names.source)


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
  torch = references.import_package("torch")
  torch.manual_seed(0)
  with_aux = bool(names.aux) and image_size >= names.aux_image_size
  if state_dict is not None:
    heads = tuple(names.aux.values())
    with_aux = with_aux and any(name.startswith(heads) for name in state_dict)
    if not with_aux:  # their heads fit one image size alone
      state_dict = {name: state_dict[name] for name in state_dict if not name.startswith(heads)}
  reference = references.build(model, names, num_classes, with_aux).double().eval()
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
    # Not strict: counters are left out, of which nothing depends.
    copies = {tensor.theirs: torch.from_numpy(state_dict[tensor.theirs].copy()) for tensor in table}
    reference.load_state_dict(copies, strict=False)
  return Pair(model, names, network, names.normalization, reference, image_size)


def state_dict_of(module: Any) -> dict[str, np.ndarray]:
  """The tensors of a live PyTorch module."""
  return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def calibrate(pair: Pair, images: np.ndarray) -> None:
  """Gives the reference weights that tell images apart, and running statistics of real images.

  γ and β are perturbed, the running statistics become those of `images`, and the softmax layer is
  changed so that over the images the logits have mean 0, and standard deviation 1 on average.

  Args:
    pair: its reference is changed.
    images: RGB, uint8 [N, H, W, 3].
  """
  torch = references.import_package("torch")
  generator = torch.Generator().manual_seed(1)

  def noise(tensor: Any) -> Any:
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)

  module = pair.reference
  normalizations = [part for part in module.modules() if _is_batch_norm(part)]
  inputs = references.preprocess(pair.model, pair.names, images)
  with torch.no_grad():
    for part in normalizations:
      part.weight.add_(0.1 * noise(part.weight))
      part.bias.add_(0.1 * noise(part.bias))
      part.reset_running_stats()
    decays = [part.momentum for part in normalizations]
    for part in normalizations:
      part.momentum = None  # a plain average
    module.train()
    module(inputs)
    for part, decay in zip(normalizations, decays, strict=True):
      part.momentum = decay
    module.eval()
    last = module.get_submodule(pair.names.layers["logits"])
    logits, _ = references.split_logits(pair.names, module(inputs))
    scale = 1 / logits.std(0, correction=0).mean()
    last.weight.mul_(scale)
    last.bias.sub_(logits.mean(0)).mul_(scale)


def _is_batch_norm(module: Any) -> bool:
  torch = references.import_package("torch")
  return isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)
