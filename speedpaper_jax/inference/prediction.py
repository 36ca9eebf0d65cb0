"""Image files → probabilities of the classes, batch by batch."""

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import time
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
  devices are at work. Batch statistics are the running ones, whatever the run evaluates with.
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
  names = _class_names(description)
  crop = preprocessing.crop
  rows = divisible_batch_size(min(batch_size, len(paths)), mesh)
  batches = [paths[start : start + rows] for start in range(0, len(paths), rows)]
  step = make_predict_step(model.network, preprocessing.normalization)
  empty = parallel.shard_batch(mesh, {"image": _stack([], rows, crop)})
  compiled = parallel.jit_on_mesh(step, mesh).lower(model.variables, empty).compile()
  jax.block_until_ready(compiled(model.variables, empty))  # the first call takes longer

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:

    def decode(batch: Sequence[pathlib.Path]) -> Iterator[np.ndarray | None]:
      return executor.map(lambda path: read_image(path, crop), batch)

    decoding = decode(batches[0])
    for batch, following in itertools.zip_longest(batches, batches[1:]):
      images = list(decoding)
      if following is not None:
        decoding = decode(following)
      inputs = parallel.shard_batch(mesh, {"image": _stack(images, rows, crop)})
      jax.block_until_ready(inputs)
      started = time.perf_counter()
      probabilities = jax.block_until_ready(compiled(model.variables, inputs))
      milliseconds = 1000 * (time.perf_counter() - started) / len(batch)
      for path, image, row in zip(batch, images, jax.device_get(probabilities), strict=False):
        yield Prediction(path, _answer(path, image, row, names, top), milliseconds)


def _answer(
  path: pathlib.Path,
  image: np.ndarray | None,
  probabilities: np.ndarray,
  names: Sequence[str],
  top: int,
) -> list[Candidate] | None:
  if image is None:
    return None
  if not np.isfinite(probabilities).all():
    warn(
      f"'{path}' is left out: the network's answer for it is no finite number; "
      f"its weights may be damaged."
    )
    return None
  return _candidates(probabilities, names, top)


def _class_names(description: ModelDescription) -> list[str]:
  if not description.class_names:
    return [f"class {label}" for label in range(description.num_classes)]
  return [english_name(name) for name in description.class_names]


def read_image(path: pathlib.Path, crop: EvaluationCrop) -> np.ndarray | None:
  """Pixels [image_size, image_size, 3] of the crop's dtype; None, and a warning, without any."""
  try:
    return crop(regular_files.read(path))
  except OSError as error:
    warn(f"'{path}' cannot be read and is left out: {error.strerror}.")
  except DecodeError as error:
    warn(f"'{path}' cannot be decoded and is left out: {error}.")
  return None


def _stack(images: Sequence[np.ndarray | None], rows: int, crop: EvaluationCrop) -> np.ndarray:
  """One batch; rows without an image are black."""
  batch = np.zeros((rows, crop.image_size, crop.image_size, 3), crop.dtype)
  for row, image in enumerate(images):
    if image is not None:
      batch[row] = image
  return batch


def _candidates(probabilities: np.ndarray, names: Sequence[str], top: int) -> list[Candidate]:
  ranked = np.argsort(-probabilities, kind="stable")[:top]
  return [Candidate(int(k), names[k], float(probabilities[k])) for k in ranked]
