"""Real images to compare networks on: a folder's, or parts of a photograph that is always there."""

import pathlib

import matplotlib.cbook
import numpy as np
from PIL import Image

from speedpaper_jax.data import decode, paths
from speedpaper_jax.data.crop import EvaluationCrop, resize_box
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import regular_files


def of_folder(folder: pathlib.Path, count: int, image_size: int) -> np.ndarray:
  """The middle of some images of a folder and its sub-folders, spread over their names.

  Args:
    folder: with image files.
    count: of images.
    image_size: pixels, height and width.

  Returns:
    RGB, uint8 [count, image_size, image_size, 3].

  Raises:
    UserError: there is no such folder, it has too few images, or one is damaged.
  """
  if not paths.is_directory(folder):
    raise UserError(f"There is no folder '{folder}'; name one with images.")
  found = find_images([folder])
  if len(found) < count:
    raise UserError(f"{folder} has {len(found)} images; the comparison takes {count}.")
  crop = EvaluationCrop(image_size, resize="short_side")
  chosen = [found[i * len(found) // count] for i in range(count)]
  return np.stack([_read(path, crop) for path in chosen])


def _read(path: pathlib.Path, crop: EvaluationCrop) -> np.ndarray:
  try:
    return crop(regular_files.read(path))
  except decode.DecodeError as error:
    raise UserError(f"The image '{path}' is damaged: {error}.") from error
  except OSError as error:
    raise UserError(f"The image '{path}' cannot be read: {error.strerror}.") from error


def of_photograph(count: int, image_size: int) -> np.ndarray:
  """Squares of a colour photograph, matplotlib's sample, that differ in place and size.

  Args:
    count: of images.
    image_size: pixels, height and width.

  Returns:
    RGB, uint8 [count, image_size, image_size, 3].
  """
  path = str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
  photograph = decode.to_rgb(decode.open_image(pathlib.Path(path).read_bytes()))
  generator = np.random.default_rng(0)
  squares = []
  for _ in range(count):
    side = generator.uniform(0.2, 0.9) * min(photograph.size)
    left = generator.uniform(0, 1 - side / photograph.width)
    top = generator.uniform(0, 1 - side / photograph.height)
    box = (left, top, left + side / photograph.width, top + side / photograph.height)
    square = resize_box(photograph, box, image_size, Image.Resampling.BILINEAR)
    squares.append(np.asarray(square))
  return np.stack(squares)
