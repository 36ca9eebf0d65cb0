"""The images of ImageNet that are no RGB JPEGs, made such as TFDS makes them."""

import io

import numpy as np
from PIL import Image

# A list that TFDS has nowhere else.
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as imagenet2012

from speedpaper_jax.data.image_archives import damaged
from speedpaper_jax.errors import UserError

# Names of 22 CMYK images and a PNG file among the training images.
NAMES = frozenset((*imagenet2012.CMYK_IMAGES, *imagenet2012.PNG_IMAGES))


def reencoded(content: bytes, path: str) -> bytes:
  """Makes an RGB JPEG as TFDS's builder does of the images of `NAMES`.

  TFDS decodes them with TensorFlow. Of the PNG file the result is the same to the byte; a pixel of
  the others may differ by a few of 255 levels, because TensorFlow's decoder of JPEG has a faster
  transform, which Pillow does not offer.

  Args:
    content: of the file.
    path: what it is called in a sentence to the user.

  Raises:
    UserError: it cannot be decoded.
  """
  try:
    with Image.open(io.BytesIO(content)) as image:
      image.load()
      pixels = _without_key(image) if image.mode == "CMYK" else image.convert("RGB")
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    raise UserError(damaged(path, error)) from error
  encoded = io.BytesIO()
  # TensorFlow's settings: half the resolution of colour, and 300 pixels an inch.
  pixels.save(encoded, "JPEG", quality=100, subsampling="4:2:0", dpi=(300, 300))
  return encoded.getvalue()


def _without_key(image: Image.Image) -> Image.Image:
  """CMYK to RGB by TensorFlow's formula, which rounds down."""
  ink = 255 - np.asarray(image).astype(np.int32)
  return Image.fromarray((ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8))
