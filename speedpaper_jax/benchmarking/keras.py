"""Keras's own networks (`keras.applications`) on its JAX back end."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from speedpaper_jax.benchmarking import jax_programs
from speedpaper_jax.benchmarking.clock import Clock
from speedpaper_jax.benchmarking.work import (
  LEARNING_RATE,
  MOMENTUM,
  NUM_CLASSES,
  Facts,
  Side,
  Work,
  images_and_labels,
)
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.interop import references
from speedpaper_jax.interop.keras_reference import APPLICATIONS


def build_side(work: Work, clock: Clock) -> Side:
  """Builds a network and its `train_on_batch`, which is compiled in the first step."""
  os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
  keras: Any = references.import_package("keras")
  if work.dtype == "bfloat16":
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
  model = getattr(keras.applications, APPLICATIONS[work.model])(
    weights=None,
    input_shape=(work.image_size, work.image_size, 3),
    classes=NUM_CLASSES,
    classifier_activation=None if work.mode == "training" else "softmax",
  )
  model.compile(
    optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=True,
  )
  images, labels = jax.device_put(images_and_labels(work))
  images = DEFAULT.apply(images).astype(jnp.float32)
  sizes = sorted(int(weight.value.size) for weight in model.trainable_variables)
  clock.lap("network")

  def take(count: int) -> None:
    for _ in range(count):
      if work.mode == "training":
        model.train_on_batch(images, labels)
      else:
        model.predict_on_batch(images)
    jax.block_until_ready([variable.value for variable in model.variables])

  return Side(take, jax_programs.peak_memory, Facts(sizes, jax.devices()[0].device_kind))
