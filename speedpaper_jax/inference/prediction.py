"""Image files → probabilities of the classes, batch by batch."""

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.imagenet_classes import english_name
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import regular_files
from speedpaper_jax.inference.evaluation import divisible_batch_size
from speedpaper_jax.inference.model_directory import LoadedModel, ModelDescription
from speedpaper_jax.steps.step import make_predict_step


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


def predict(
  model: LoadedModel,
  mesh: Mesh,
  paths: Sequence[pathlib.Path],
  *,
  batch_size: int,
  top: int,
) -> Iterator[tuple[pathlib.Path, list[Candidate] | None]]:
  """Classifies image files, in their order.

  All batches have one shape, so that one program is compiled; the next is decoded while the
  devices are at work. Batch statistics are the running ones, whatever the run evaluates with.

  Args:
    model: the network.
    mesh: the devices that it was loaded for.
    paths: of the images.
    batch_size: images at a time, rounded up until it divides over the devices.
    top: number of classes to name, or as many as there are.

  Yields:
    A path, and its classes from the most to the least probable; None, and a warning, for a file
    that cannot be read, or that the network has no finite answer for.

  Raises:
    UserError: the network has no classes.
  """
  description = model.description
  if not description.num_classes:
    raise UserError(f"The network {description.name} was saved without classes to predict.")
  preprocessing = description.preprocessing
  step = make_predict_step(model.network, preprocessing.normalization)
  compiled = parallel.jit_on_mesh(step, mesh)
  names = _class_names(description)
  rows = divisible_batch_size(min(batch_size, len(paths)), mesh)

  def answers(
    batch: Sequence[pathlib.Path], images: Sequence[np.ndarray | None], probabilities: jax.Array
  ) -> Iterator[tuple[pathlib.Path, list[Candidate] | None]]:
    for path, image, row in zip(batch, images, jax.device_get(probabilities), strict=False):
      if image is not None and not np.isfinite(row).all():
        warn(
          f"'{path}' is left out: the network's answer for it is no finite number; "
          f"its weights may be damaged."
        )
        image = None
      yield path, None if image is None else _candidates(row, names, top)

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
    running = None
    for start in range(0, len(paths), rows):
      batch = paths[start : start + rows]
      images = list(executor.map(lambda path: read_image(path, preprocessing.crop), batch))
      filled = _stack(images, rows, preprocessing.crop.image_size)
      probabilities = compiled(model.variables, parallel.shard_batch(mesh, {"image": filled}))
      if running is not None:
        yield from answers(*running)
      running = batch, images, probabilities
    if running is not None:
      yield from answers(*running)


def _class_names(description: ModelDescription) -> list[str]:
  if not description.class_names:
    return [f"class {label}" for label in range(description.num_classes)]
  return [english_name(name) for name in description.class_names]


def read_image(path: pathlib.Path, crop: EvaluationCrop) -> np.ndarray | None:
  """A network's input, uint8 [image_size, image_size, 3]; None, and a warning, if there is none."""
  try:
    return crop(regular_files.read(path))
  except OSError as error:
    warn(f"'{path}' cannot be read and is left out: {error.strerror}.")
  except DecodeError as error:
    warn(f"'{path}' cannot be decoded and is left out: {error}.")
  return None


def _stack(images: Sequence[np.ndarray | None], rows: int, image_size: int) -> np.ndarray:
  """One batch; rows without an image are black."""
  batch = np.zeros((rows, image_size, image_size, 3), np.uint8)
  for row, image in enumerate(images):
    if image is not None:
      batch[row] = image
  return batch


def _candidates(probabilities: np.ndarray, names: Sequence[str], top: int) -> list[Candidate]:
  ranked = np.argsort(-probabilities, kind="stable")[:top]
  return [Candidate(int(k), names[k], float(probabilities[k])) for k in ranked]
