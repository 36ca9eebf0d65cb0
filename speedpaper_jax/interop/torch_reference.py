"""A network of one of PyTorch's packages, measured."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from speedpaper_jax.interop import references
from speedpaper_jax.interop.measurements import AUX_WEIGHT, Arrays, Gradients, ten_steps
from speedpaper_jax.interop.names import Names


class TorchReference:
  """See `measurements.Reference`."""

  def __init__(self, model: str, names: Names, module: Any) -> None:
    """Takes a network over.

    Args:
      model: our name.
      names: theirs.
      module: a `torch.nn.Module`, which becomes float64 and goes into evaluation mode.
    """
    self._torch = references.import_package("torch")
    self._model = model
    self._names = names
    self.module = module.double().eval()

  def load(self, state_dict: Mapping[str, np.ndarray]) -> None:
    """Takes weights; counters may be left out, of which nothing depends."""
    copies = {name: self._torch.from_numpy(values.copy()) for name, values in state_dict.items()}
    self.module.load_state_dict(copies, strict=False)

  def tensors(self) -> Arrays:
    """See `Reference`."""
    return {name: tensor.detach().numpy() for name, tensor in self.module.state_dict().items()}

  def parameters(self) -> Arrays:
    """See `Reference`."""
    named = self.module.named_parameters()
    return {name: values.detach().numpy().copy() for name, values in named}

  def calibrate(self, images: np.ndarray) -> None:
    """See `Reference`."""
    torch, module = self._torch, self.module
    generator = torch.Generator().manual_seed(1)

    def noise(tensor: Any) -> Any:
      return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)

    kinds = torch.nn.BatchNorm1d | torch.nn.BatchNorm2d
    normalizations = [part for part in module.modules() if isinstance(part, kinds)]
    inputs = self._inputs(images, "float64")
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
      last = module.get_submodule(self._names.layers["logits"])
      logits, _ = references.split_logits(self._names, module(inputs))
      scale = 1 / logits.std(0, correction=0).mean()
      last.weight.mul_(scale)
      last.bias.sub_(logits.mean(0)).mul_(scale)

  def evaluate(self, images: np.ndarray, dtype: str) -> tuple[np.ndarray, Arrays]:
    """See `Reference`."""
    module = self._copy(dtype)
    seen: Arrays = {}

    def keep(stage: str, tensor: Any) -> None:
      # A copy, since later layers may work in place.
      seen[stage] = tensor.detach().permute(0, 2, 3, 1).numpy().copy()

    for stage, tap in self._names.stages.items():
      tapped = module.get_submodule(tap.module)
      if tap.at_input:
        tapped.register_forward_pre_hook(lambda _, inputs, stage=stage: keep(stage, inputs[0]))
      else:
        tapped.register_forward_hook(lambda _, __, output, stage=stage: keep(stage, output))
    with self._torch.no_grad():
      outputs = module(self._inputs(images, dtype))
    return references.split_logits(self._names, outputs)[0].numpy(), seen

  def gradients(self, images: np.ndarray, labels: np.ndarray, dtype: str) -> Gradients:
    """See `Reference`."""
    module = self._copy(dtype)
    loss, heads = self._backward(module, images, labels, dtype)
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
    self, optimizer: str, rate: float, images: np.ndarray, labels: np.ndarray, dtype: str
  ) -> Iterator[Arrays]:
    """See `Reference`."""
    module = self._copy(dtype)
    torch_optimizer = self._optimizer(optimizer, module.parameters(), rate)
    for batch, batch_labels in ten_steps(images, labels):
      self._backward(module, batch, batch_labels, dtype)
      torch_optimizer.step()
      yield {name: value.detach().numpy() for name, value in module.named_parameters()}

  def _copy(self, dtype: str) -> Any:
    return copy.deepcopy(self.module).to(getattr(self._torch, dtype))

  def _inputs(self, images: np.ndarray, dtype: str) -> Any:
    inputs = references.preprocess(self._model, self._names, images)
    return inputs.to(getattr(self._torch, dtype))

  def _backward(
    self, module: Any, images: np.ndarray, labels: np.ndarray, dtype: str
  ) -> tuple[Any, Any]:
    module.train()
    module.zero_grad()
    outputs = module(self._inputs(images, dtype))
    logits, aux = references.split_logits(self._names, outputs)
    targets = self._torch.from_numpy(labels.astype(np.int64))
    cross_entropy = self._torch.nn.functional.cross_entropy
    loss = cross_entropy(logits, targets)
    for head in aux.values():
      loss = loss + AUX_WEIGHT * cross_entropy(head, targets)
    loss.backward()
    return loss, {"logits": logits, **aux}

  def _optimizer(self, name: str, parameters: Any, rate: float) -> Any:
    if name == "sgd":
      return self._torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    optimizers = references.import_package("timm.optim")
    return optimizers.RMSpropTF(
      parameters, lr=rate, alpha=0.9, eps=1.0, momentum=0.9, lr_in_momentum=True
    )
