"""A whole split of small images as two arrays, for networks that are trained in memory."""

import numpy as np

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import decode
from speedpaper_jax.data.sources import Split


def load(split: Split, image_size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Decodes all images.

  Args:
    split: of a data set whose images are all of one size, unless `image_size` makes them so.
    image_size: the side to which they are resized, in pixels.

  Returns:
    RGB, uint8 [N, H, W, 3]; class numbers, int32 [N].
  """
  prepare = decode if image_size is None else EvaluationCrop(image_size)
  records = [split.records[index] for index in range(len(split))]
  images = np.stack([prepare(record["image"]) for record in records])
  return images, np.array([record["label"] for record in records], np.int32)
