"""A whole split of small images as two arrays, for networks that are trained in memory."""

import numpy as np

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import DecodeError, decode
from speedpaper_jax.data.records import name_of
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError


def load(split: Split, image_size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Decodes all images.

  Args:
    split: of a data set whose images are all of one size, unless `image_size` makes them so.
    image_size: the side to which they are resized, in pixels.

  Returns:
    RGB, uint8 [N, H, W, 3]; class numbers, int32 [N].

  Raises:
    UserError: an image is damaged.
  """
  prepare = decode if image_size is None else EvaluationCrop(image_size)
  images, labels = [], []
  for index in range(len(split)):
    try:
      record = split.records[index]
      images.append(prepare(record["image"]))
    except DecodeError as error:
      name = name_of(split.records, index)
      raise UserError(
        f"{name[0].upper()}{name[1:]} cannot be decoded ({error}); prepare the data set again."
      ) from error
    labels.append(record["label"])
  return np.stack(images), np.array(labels, np.int32)
