"""Image files as batches of pixels; the next is decoded while the caller works on one."""

import concurrent.futures
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from speedpaper_jax.data import cores
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.errors import warn
from speedpaper_jax.files import regular_files


@dataclasses.dataclass(frozen=True)
class ImageBatch:
  """Some files.

  Attributes:
    paths: of the files, at most as many as there are rows.
    is_there: for each of them, whether it could be decoded.
    pixels: RGB [rows, image_size, image_size, 3] of the crop's dtype; rows without an image are
      black.
  """

  paths: Sequence[pathlib.Path]
  is_there: Sequence[bool]
  pixels: np.ndarray


def image_batches(
  paths: Sequence[pathlib.Path], crop: EvaluationCrop, rows: int
) -> Iterator[ImageBatch]:
  """Decodes and crops files, in their order.

  All batches have one shape, so that one program serves them. A file that cannot be read or decoded
  is warned of.

  Args:
    paths: of the files.
    crop: encoded image → pixels.
    rows: of each batch.
  """
  batches = [paths[start : start + rows] for start in range(0, len(paths), rows)]
  with concurrent.futures.ThreadPoolExecutor(cores.usable()) as executor:

    def decode(batch: Sequence[pathlib.Path] | None) -> Iterator[np.ndarray | None]:
      return executor.map(lambda path: read_image(path, crop), batch or ())

    decoding = decode(batches[0] if batches else None)
    for batch, following in itertools.zip_longest(batches, batches[1:]):
      images, decoding = list(decoding), decode(following)
      pixels = empty_batch(crop, rows)
      for row, image in zip(pixels, images, strict=False):
        if image is not None:
          row[:] = image
      yield ImageBatch(batch, [image is not None for image in images], pixels)


def empty_batch(crop: EvaluationCrop, rows: int) -> np.ndarray:
  """A batch of black images."""
  return np.zeros((rows, crop.image_size, crop.image_size, 3), crop.dtype)


def read_image(path: pathlib.Path, crop: EvaluationCrop) -> np.ndarray | None:
  """Pixels [image_size, image_size, 3] of the crop's dtype; None, and a warning, without any."""
  try:
    return crop(regular_files.read(path))
  except OSError as error:
    warn(f"'{path}' cannot be read and is left out: {error.strerror}.")
  except DecodeError as error:
    warn(f"'{path}' cannot be decoded and is left out: {error}.")
  return None
