"""Image files → probabilities of the classes, batch by batch."""

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax.data.imagenet_classes import english_name
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.inference.evaluation import divisible_batch_size
from speedpaper_jax.inference.image_batches import empty_batch, image_batches
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.steps import build
from speedpaper_jax.steps.evaluation import make_predict_step


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A class that an image may show.

  Attributes:
    label: its number.
    name: in English, where it is one of ImageNet's.
    probability: between 0 and 1.
  """

  label: int
  name: str
  probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What the network says of an image file.

  Attributes:
    path: of the file.
    candidates: its classes from the most to the least probable; None for a file that cannot be
      read, or that the network has no finite answer for.
    milliseconds: that the compiled network took for its batch, by the number of images in it.
  """

  path: pathlib.Path
  candidates: list[Candidate] | None
  milliseconds: float


def predict(
  model: LoadedModel,
  mesh: Mesh,
  paths: Sequence[pathlib.Path],
  *,
  batch_size: int,
  top: int,
) -> Iterator[Prediction]:
  """Classifies image files, in their order.

  All batches have one shape, so that one program is compiled; the next is decoded while the
  devices are at work. Batch statistics are the running ones, whatever the run evaluates with, and
  folded into the layers before, see `folding`.
  What is left out is warned of.

  Args:
    model: the network.
    mesh: the devices that it was loaded for.
    paths: of the images.
    batch_size: images at a time, rounded up until it divides over the devices.
    top: number of classes to name, or as many as there are.

  Raises:
    UserError: the network has no classes.
  """
  description = model.description
  if not description.num_classes:
    raise UserError(f"The network {description.name} was saved without classes to predict.")
  preprocessing = description.preprocessing
  names = class_names(description)
  crop = preprocessing.crop
  rows = divisible_batch_size(min(batch_size, len(paths)), mesh)
  network, variables = build.fold_batch_norm(model.network, model.variables, mesh)
  step = make_predict_step(network, preprocessing.normalization)
  empty = parallel.shard_batch(mesh, {"image": empty_batch(crop, rows)})
  compiled = parallel.jit_on_mesh(step, mesh).lower(variables, empty).compile()
  jax.block_until_ready(compiled(variables, empty))  # the first call takes longer
  for batch in image_batches(paths, crop, rows):
    inputs = jax.block_until_ready(parallel.shard_batch(mesh, {"image": batch.pixels}))
    started = time.perf_counter()
    probabilities = jax.block_until_ready(compiled(variables, inputs))
    milliseconds = 1000 * (time.perf_counter() - started) / len(batch.paths)
    answers = zip(batch.paths, batch.is_there, jax.device_get(probabilities), strict=False)
    for path, is_there, row in answers:
      candidates = _answer(path, row, names, top) if is_there else None
      yield Prediction(path, candidates, milliseconds)


def _answer(
  path: pathlib.Path, probabilities: np.ndarray, names: Sequence[str], top: int
) -> list[Candidate] | None:
  if not np.isfinite(probabilities).all():
    warn(
      f"'{path}' is left out: the network's answer for it is no finite number; "
      f"its weights may be damaged."
    )
    return None
  return _candidates(probabilities, names, top)


def class_names(description: ModelDescription) -> list[str]:
  """A name for each class: in English where it is one of ImageNet's, or its number in words."""
  if not description.class_names:
    return [f"class {label}" for label in range(description.num_classes)]
  return [english_name(name) for name in description.class_names]


def _candidates(probabilities: np.ndarray, names: Sequence[str], top: int) -> list[Candidate]:
  ranked = np.argsort(-probabilities, kind="stable")[:top]
  return [Candidate(int(k), names[k], float(probabilities[k])) for k in ranked]
