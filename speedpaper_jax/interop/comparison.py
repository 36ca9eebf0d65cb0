"""A network and another package's, on the same weights and images: outputs, gradients, training.

Deep networks with batch normalization amplify rounding, so equality is judged in float64; in
float32 our error is set beside the other package's own. Random weights prove nothing by themselves:
with made-up running statistics all images give the same logits. Hence weights are perturbed, the
running statistics are taken from images, and the logits have to differ between images.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from speedpaper_jax import models, optim
from speedpaper_jax.interop import references, tensors
from speedpaper_jax.interop.names import Names
from speedpaper_jax.models import features, ops, registry
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.normalization import Normalization

PyTree = Any
Arrays = dict[str, np.ndarray]

TOLERANCE = 1e-8  # of everything that is judged
AUX_WEIGHT = 0.4
OPTIMIZERS = ("sgd", "rmsprop")
STEPS = 10
LEARNING_RATE = 0.002  # the BN paper's 0.0075 at a batch of 32, at one of 8
# Standard deviation of the logits over images, by that over images and classes.
_LEAST_SPREAD = 0.5
# A gradient that is identically zero but for rounding, by the norm of the largest gradient.
_NOISE = 1e-10


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    quantity: what is compared.
    value: the largest difference.
    limit: that it may not exceed; None where it is only reported.
    where: the stage or tensor of the largest difference.
    at_least: whether `limit` is a lower one.
  """

  quantity: str
  value: float
  limit: float | None = None
  where: str = ""
  at_least: bool = False

  @property
  def passed(self) -> bool:
    """Whether `value` keeps its limit; a NaN never does."""
    if self.limit is None:
      return True
    return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclasses.dataclass
class Pair:
  """The two networks and what they are compared on.

  Attributes:
    model: our name.
    names: of the other implementation.
    network: ours.
    normalization: that our network's input gets.
    reference: theirs, a `torch.nn.Module` in float64.
    image_size: pixels, height and width.
  """

  model: str
  names: Names
  network: nn.Module
  normalization: Normalization
  reference: Any
  image_size: int

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
  """Builds both networks; without `state_dict` the reference keeps its random weights."""
  torch = references.import_package("torch")
  torch.manual_seed(0)
  with_aux = bool(names.aux) and image_size >= names.aux_image_size
  reference = references.build(model, names, num_classes, with_aux)
  if state_dict is not None:
    reference.load_state_dict({name: torch.from_numpy(t) for name, t in state_dict.items()})
  available: dict[str, Any] = {
    "dropout_rate": 0.0,
    "aux_dropout_rate": 0.0,
    "use_aux_heads": with_aux,
  }
  settings = LayerSettings(
    registry.find_dialect(model, names.dialect).batch_norm,
    dtype=jnp.float64,
    operations=ops.CPU,
  )
  network = models.create(
    model,
    names.dialect,
    num_classes=num_classes,
    settings=settings,
    **{field: value for field, value in available.items() if registry.has_field(model, field)},
  )
  return Pair(model, names, network, names.normalization, reference.double(), image_size)


def state_dict_of(module: Any) -> dict[str, np.ndarray]:
  """The tensors of a live PyTorch module."""
  return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def calibrate(pair: Pair, images: np.ndarray) -> None:
  """Gives the reference weights that tell images apart, and running statistics of real images.

  γ and β are perturbed, the running statistics become those of `images`, and the softmax layer's
  bias takes away what the logits of all images have in common.

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
    last.bias.sub_(module(inputs).mean(0))


def compare_evaluation(pair: Pair, images: np.ndarray) -> list[Row]:
  """Compares logits and all stages in evaluation mode.

  Args:
    pair: with calibrated or trained weights.
    images: RGB, uint8 [N, H, W, 3].
  """
  theirs, their_stages = _reference_evaluation(pair, images)
  with jax.enable_x64(True):
    apply = jax.jit(
      lambda variables, inputs: pair.network.apply(
        variables, inputs, train=False, mutable=[features.FEATURES]
      )
    )
    inputs = pair.normalization.apply(images, jnp.float64)
    ours, left = jax.device_get(apply(pair.variables(), inputs))
  spread = np.mean(np.std(theirs, axis=0))
  stages = {
    stage: float(np.max(np.abs(left[features.FEATURES][stage] - output)) / np.std(output))
    for stage, output in their_stages.items()
  }
  worst = max(stages, key=lambda stage: stages[stage])
  agreement = np.mean(np.argmax(ours, -1) == np.argmax(theirs, -1))
  return [
    Row("spread of logits over images", float(spread / np.std(theirs)), _LEAST_SPREAD, "", True),
    Row("logits", float(np.max(np.abs(ours - theirs)) / spread), TOLERANCE),
    Row(f"{len(stages)} stages", stages[worst], TOLERANCE, worst),
    Row("top-1 agreement", float(agreement), 1.0, "", True),
  ]


def _reference_evaluation(pair: Pair, images: np.ndarray) -> tuple[np.ndarray, Arrays]:
  torch = references.import_package("torch")
  seen: Arrays = {}

  def keep(stage: str, tensor: Any) -> None:
    # A copy, since later layers may work in place.
    seen[stage] = tensor.detach().permute(0, 2, 3, 1).numpy().copy()

  hooks = []
  for stage, tap in pair.names.stages.items():
    module = pair.reference.get_submodule(tap.module)
    if tap.at_input:
      hook: Any = lambda _, inputs, stage=stage: keep(stage, inputs[0])  # noqa: E731
      hooks.append(module.register_forward_pre_hook(hook))
    else:
      hook = lambda _, __, output, stage=stage: keep(stage, output)  # noqa: E731
      hooks.append(module.register_forward_hook(hook))
  pair.reference.eval()
  with torch.no_grad():
    logits = pair.reference(references.preprocess(pair.model, pair.names, images)).numpy()
  for hook in hooks:
    hook.remove()
  return logits, seen


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


def compare_training(pair: Pair, images: np.ndarray, labels: np.ndarray) -> list[Row]:
  """Compares loss, gradients and running statistics of one batch, and training over ten steps.

  Args:
    pair: its reference is left as it was.
    images: RGB, uint8 [batches, N, H, W, 3].
    labels: [batches, N].
  """
  with jax.enable_x64(True):
    ours = _OurTraining(pair)
    theirs = _TheirTraining(pair)
    rows = _compare_gradients(
      pair, ours.gradients(images[0], labels[0]), theirs.gradients(images[0], labels[0])
    )
    for name in OPTIMIZERS:
      trajectories = zip(
        ours.train(name, images, labels), theirs.train(name, images, labels), strict=True
      )
      for step, (our_parameters, their_parameters) in enumerate(trajectories, start=1):
        if step in (1, STEPS):
          noise = _zero_gradients(pair)
          rows.append(
            _compare_parameters(
              f"parameters after {step} steps of {name}" if step > 1 else f"… 1 step of {name}",
              our_parameters,
              their_parameters,
              noise,
            )
          )
  return rows


def _compare_gradients(pair: Pair, ours: Gradients, theirs: Gradients) -> list[Row]:
  noise = _zero_gradients(pair)
  largest = max(float(np.linalg.norm(gradient)) for gradient in theirs.grads.values())
  errors, cosines, zeros = {}, {}, {}
  for name, gradient in theirs.grads.items():
    size = float(np.linalg.norm(gradient))
    if name in noise:
      zeros[name] = max(size, float(np.linalg.norm(ours.grads[name]))) / largest
      continue
    errors[name] = float(np.linalg.norm(ours.grads[name] - gradient)) / size
    cosines[name] = float(
      np.vdot(ours.grads[name], gradient) / (np.linalg.norm(ours.grads[name]) * size)
    )
  rows = [Row("loss", abs(ours.loss - theirs.loss) / abs(theirs.loss), TOLERANCE)]
  for head, logits in theirs.logits.items():
    difference = float(np.max(np.abs(ours.logits[head] - logits)) / np.std(logits))
    rows.append(Row(f"{head} in training", difference, TOLERANCE))
  statistics = {
    name: float(np.max(np.abs(ours.batch_stats[name] - values)) / np.max(np.abs(values)))
    for name, values in theirs.batch_stats.items()
  }
  rows += [
    _worst(f"{len(statistics)} running statistics", statistics, TOLERANCE),
    _worst(f"{len(errors)} gradients", errors, TOLERANCE),
    Row("least cosine of a gradient", *_least(cosines), at_least=True),
  ]
  if zeros:
    rows.append(_worst(f"{len(zeros)} gradients that are zero", zeros, _NOISE))
  return rows


def _least(cosines: Mapping[str, float]) -> tuple[float, float, str]:
  name = min(cosines, key=lambda name: cosines[name])
  return cosines[name], 1 - TOLERANCE, name


def _worst(quantity: str, values: Mapping[str, float], limit: float) -> Row:
  name = max(values, key=lambda name: values[name])
  return Row(quantity, values[name], limit, name)


def _compare_parameters(quantity: str, ours: Arrays, theirs: Arrays, noise: set[str]) -> Row:
  errors = {
    name: float(np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name]))
    for name in theirs
    if name not in noise
  }
  return _worst(quantity, errors, TOLERANCE)


def _zero_gradients(pair: Pair) -> set[str]:
  """Parameters whose gradient is zero: β makes up for any bias before batch normalization."""
  if not pair.names.blocks or not pair.network.dialect.bias_before_batch_norm:
    return set()
  return {f"{block}{pair.names.conv}.bias" for block in pair.names.blocks.values()}


def _ten_steps(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """The batches again and again."""
  for step in range(STEPS):
    batch = step % len(images)
    yield images[batch], labels[batch]


def _is_batch_norm(module: Any) -> bool:
  torch = references.import_package("torch")
  return isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)


class _OurTraining:
  """The JAX side; its gradient is compiled once."""

  def __init__(self, pair: Pair) -> None:
    self._pair = pair
    self._table = tensors.tensors(pair.network, pair.names, pair.image_size)
    self._variables = pair.variables()
    self._gradient = jax.jit(jax.value_and_grad(self._loss, has_aux=True))

  def _loss(
    self, params: PyTree, batch_stats: PyTree, inputs: jax.Array, labels: jax.Array
  ) -> tuple[jax.Array, Any]:
    logits, left = self._pair.network.apply(
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

  def _step(self, variables: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    inputs = self._pair.normalization.apply(images, jnp.float64)
    return self._gradient(variables["params"], variables["batch_stats"], inputs, labels)

  def gradients(self, images: np.ndarray, labels: np.ndarray) -> Gradients:
    (loss, (heads, batch_stats)), grads = self._step(self._variables, images, labels)
    return Gradients(
      float(loss),
      jax.device_get(heads),
      self._named({"params": grads}),
      self._named({"batch_stats": batch_stats}),
    )

  def train(self, optimizer: str, images: np.ndarray, labels: np.ndarray) -> Iterator[Arrays]:
    """Parameters after each step."""
    config = ml_collections.ConfigDict(
      {
        "name": optimizer,
        "momentum": 0.9,
        "rmsprop_decay": 0.9,
        "rmsprop_epsilon": 1.0,
        "l2": 0.0,
        "clip_norm": 0.0,
      }
    )
    transformation = optim.make_optimizer(config, lambda _: LEARNING_RATE)
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


class _TheirTraining:
  """The PyTorch side."""

  def __init__(self, pair: Pair) -> None:
    self._pair = pair
    self._torch = references.import_package("torch")

  def _backward(self, module: Any, images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    torch = self._torch
    module.train()
    module.zero_grad()
    outputs = module(references.preprocess(self._pair.model, self._pair.names, images))
    logits, aux = references.auxiliary_logits(self._pair.names, outputs)
    targets = torch.from_numpy(labels.astype(np.int64))
    loss = torch.nn.functional.cross_entropy(logits, targets)
    for head in aux.values():
      loss = loss + AUX_WEIGHT * torch.nn.functional.cross_entropy(head, targets)
    loss.backward()
    return loss, {"logits": logits, **aux}

  def gradients(self, images: np.ndarray, labels: np.ndarray) -> Gradients:
    module = copy.deepcopy(self._pair.reference)
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

  def train(self, optimizer: str, images: np.ndarray, labels: np.ndarray) -> Iterator[Arrays]:
    """Parameters after each step."""
    module = copy.deepcopy(self._pair.reference)
    torch_optimizer = self._optimizer(optimizer, module.parameters())
    for batch, batch_labels in _ten_steps(images, labels):
      self._backward(module, batch, batch_labels)
      torch_optimizer.step()
      yield {name: value.detach().numpy() for name, value in module.named_parameters()}

  def _optimizer(self, name: str, parameters: Any) -> Any:
    if name == "sgd":
      return self._torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.9)
    optimizers = references.import_package("timm.optim")
    return optimizers.RMSpropTF(
      parameters, lr=LEARNING_RATE, alpha=0.9, eps=1.0, momentum=0.9, lr_in_momentum=True
    )
