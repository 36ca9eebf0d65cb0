"""A network of Keras's own, on its JAX back end, measured."""

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from speedpaper_jax.interop import keras_files, references
from speedpaper_jax.interop.measurements import Arrays, Gradients, ten_steps
from speedpaper_jax.interop.names import Names
from speedpaper_jax.models import registry

# Our names of the networks → Keras's.
APPLICATIONS = {"inception_v3": "InceptionV3", "inception_resnet_v2": "InceptionResNetV2"}


class KerasReference:
  """See `measurements.Reference`; under the names that `keras_files` gives the tensors.

  Its running variances are the biased ones, which `gradients` corrects by n / (n - 1).
  """

  def __init__(self, model: str, names: Names, num_classes: int, image_size: int) -> None:
    """Builds a network with random weights, in float64.

    Args:
      model: our name.
      names: Keras's.
      num_classes: of the softmax layer.
      image_size: pixels.
    """
    self._names = names
    self._preprocess = getattr(_keras().applications, model).preprocess_input
    batch_norm = registry.find_dialect(model, names.dialect).batch_norm
    assert batch_norm is not None
    self._decay = batch_norm.decay
    build = functools.partial(_build, model, num_classes, image_size, self._decay)
    self._models = {dtype: build(dtype) for dtype in ("float64", "float32")}
    self._steps = {dtype: _make_step(built) for dtype, built in self._models.items()}
    self._values = [np.asarray(each.value) for each in self._models["float64"].variables]
    self._leaves = _leaves(self._models["float64"])

  def load(self, state_dict: Mapping[str, np.ndarray]) -> None:
    """See `Reference`."""
    self._values = [keras_files.from_torch(state_dict[leaf]) for leaf in self._leaves]

  def tensors(self) -> Arrays:
    """See `Reference`."""
    return self._named(self._values)

  def parameters(self) -> Arrays:
    """See `Reference`."""
    running = ("running_mean", "running_var")
    return {name: values for name, values in self.tensors().items() if not name.endswith(running)}

  def calibrate(self, images: np.ndarray) -> None:
    """See `Reference`; there is no γ."""
    generator = np.random.default_rng(1)
    tensors = self.tensors()
    for name, values in tensors.items():
      if f"{name.removesuffix('bias')}running_mean" in tensors and name.endswith("bias"):
        tensors[name] = values + 0.1 * generator.standard_normal(values.shape)
    self.load(tensors)
    moved = self.gradients(images, np.zeros(len(images), int), "float64").batch_stats
    for name, values in moved.items():  # the images' own are what the averages have moved by
      old = self._decay * tensors[name]
      tensors[name] = (values - old) / (1 - self._decay)
    self.load(tensors)
    logits, _ = self.evaluate(images, "float64")
    scale = 1 / logits.std(0).mean()
    last = self._names.layers["logits"]
    tensors[f"{last}.weight"] = tensors[f"{last}.weight"] * scale
    tensors[f"{last}.bias"] = (tensors[f"{last}.bias"] - logits.mean(0)) * scale
    self.load(tensors)

  def evaluate(self, images: np.ndarray, dtype: str) -> tuple[np.ndarray, Arrays]:
    """See `Reference`."""
    model = self._models[dtype]
    numbers = keras_files.numbers([layer.name for layer in model.layers])
    layers = {numbers[layer.name]: layer for layer in model.layers}
    taps = {stage: layers[tap.module].output for stage, tap in self._names.stages.items()}
    with _precision(dtype):
      trained, others = self._state(dtype)
      outputs = _keras().Model(model.inputs, {**taps, "logits": model.output})
      found, _ = jax.jit(functools.partial(outputs.stateless_call, training=False))(
        trained, others, self._inputs(images, dtype)
      )
      stages = jax.device_get(found)
    return stages.pop("logits"), stages

  def gradients(self, images: np.ndarray, labels: np.ndarray, dtype: str) -> Gradients:
    """See `Reference`."""
    with _precision(dtype):
      trained, others = self._state(dtype)
      (loss, (logits, moved)), grads = self._steps[dtype](
        trained, others, self._inputs(images, dtype), labels
      )
      loss, logits, moved, grads = jax.device_get((loss, logits, moved, grads))
    averages = self._named(moved, self._models[dtype].non_trainable_variables)
    for name, count in self._counts(len(images)).items():
      old = self._decay * self.tensors()[name]
      averages[name] = old + (averages[name] - old) * count / (count - 1)
    return Gradients(
      float(loss),
      {"logits": logits},
      self._named(grads, self._models[dtype].trainable_variables),
      averages,
    )

  def train(
    self, optimizer: str, rate: float, images: np.ndarray, labels: np.ndarray, dtype: str
  ) -> Iterator[Arrays]:
    """See `Reference`."""
    model = self._models[dtype]
    with _precision(dtype):
      update = _optimizer(optimizer, rate)
      update.build(model.trainable_variables)
      slots = [_initial_slot(slot) for slot in update.variables]
      apply = jax.jit(update.stateless_apply)
      trained, others = self._state(dtype)
    for batch, batch_labels in ten_steps(images, labels):
      with _precision(dtype):
        inputs = self._inputs(batch, dtype)
        (_, (_, others)), grads = self._steps[dtype](trained, others, inputs, batch_labels)
        trained, slots = apply(slots, grads, trained)
        values = jax.device_get(trained)
      yield self._named(values, model.trainable_variables)

  def _state(self, dtype: str) -> tuple[list[jax.Array], list[jax.Array]]:
    """Values of the variables that are trained, and of the others."""
    model = self._models[dtype]
    values = dict(zip([each.path for each in model.variables], self._values, strict=True))
    trained, others = (
      [jnp.asarray(values[each.path], dtype) for each in variables]
      for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    return trained, others

  def _inputs(self, images: np.ndarray, dtype: str) -> jax.Array:
    return jnp.asarray(self._preprocess(images.astype(dtype)), dtype)

  def _named(self, values: list[Any], variables: Any = None) -> Arrays:
    """The values of some variables, all by default, under their names and in PyTorch's layout."""
    model = self._models["float64"]
    paths = [each.path for each in (model.variables if variables is None else variables)]
    names = dict(zip([each.path for each in model.variables], self._leaves, strict=True))
    return {
      names[path]: keras_files.to_torch(np.asarray(value))
      for path, value in zip(paths, values, strict=True)
    }

  def _counts(self, batch_size: int) -> dict[str, int]:
    """How many values each running variance is of."""
    model = self._models["float64"]
    paths = dict(zip([each.path for each in model.variables], self._leaves, strict=True))
    return {
      paths[layer.moving_variance.path]: batch_size * int(np.prod(layer.input.shape[1:-1]))
      for layer in model.layers
      if hasattr(layer, "moving_variance")
    }


def _keras() -> Any:
  # Before it is imported: Keras reads it then.
  os.environ["KERAS_BACKEND"] = "jax"
  return references.import_package("keras")


@contextlib.contextmanager
def _precision(dtype: str) -> Iterator[None]:
  config = _keras().config
  before = config.floatx()
  config.set_floatx(dtype)
  # Else on JAX its batch normalization would round everything to float32.
  narrowed = importlib.import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE
  try:
    with mock.patch.dict(narrowed, float64="float64"), jax.enable_x64(dtype == "float64"):
      yield
  finally:
    config.set_floatx(before)


def _build(model: str, num_classes: int, image_size: int, decay: float, dtype: str) -> Any:
  with _precision(dtype):
    keras = _keras()
    keras.utils.set_random_seed(0)
    keras.utils.clear_session(free_memory=False)  # so that both have the same names
    built = getattr(keras.applications, APPLICATIONS[model])(
      weights=None,
      input_shape=(image_size, image_size, 3),
      classes=num_classes,
      classifier_activation=None,
    )
  for layer in built.layers:
    if hasattr(layer, "momentum"):
      layer.momentum = decay
  return built


def _make_step(model: Any) -> Any:
  """Loss, logits, the other variables after the step, and gradients."""

  def loss_of(trained: Any, others: Any, inputs: jax.Array, labels: jax.Array) -> Any:
    logits, moved = model.stateless_call(trained, others, inputs, training=True)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses), (logits, moved)

  return jax.jit(jax.value_and_grad(loss_of, has_aux=True))


def _leaves(model: Any) -> list[str]:
  """The names of all variables, in Keras's order."""
  numbers = keras_files.numbers([layer.name for layer in model.layers if layer.variables])
  names = {
    variable.path: f"{numbers[layer.name]}.{leaf}"
    for layer in model.layers
    if layer.variables
    for variable, leaf in zip(
      layer.weights,
      keras_files.leaf_names([weight.shape for weight in layer.weights]),
      strict=True,
    )
  }
  return [names[variable.path] for variable in model.variables]


def _optimizer(name: str, rate: float) -> Any:
  optimizers = _keras().optimizers
  if name == "sgd":
    return optimizers.SGD(rate, momentum=0.9)
  return optimizers.RMSprop(rate, rho=0.9, momentum=0.9, epsilon=1.0)


def _initial_slot(slot: Any) -> jax.Array:
  """TensorFlow 1 began with ones where Keras has zeros."""
  value = jnp.asarray(slot.value)
  return jnp.ones_like(value) if "velocity" in slot.path else value
