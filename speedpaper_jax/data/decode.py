"""Encoded images or arrays of any kind → upright RGB, with Pillow."""

import io
import math
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# What image data sets are made of; Pillow's readers of rarer formats fail oddly on damaged files.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# What Pillow raises on damaged files, depending on the format and on where the damage is.
_DAMAGE = (
  OSError,
  SyntaxError,
  ValueError,
  EOFError,
  IndexError,
  struct.error,
  zlib.error,
  Image.DecompressionBombError,
)
# How to undo each EXIF orientation. `ImageOps.exif_transpose` also writes the EXIF block anew, and
# fails where that is damaged elsewhere.
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


class DecodeError(Exception):
  """The bytes are not a whole image of a known format."""


def decode(image: bytes | np.ndarray) -> np.ndarray:
  """Decodes an image at its full size.

  Args:
    image: an encoded JPEG, PNG, WebP, GIF or BMP, or uint8 `[H, W]` or `[H, W, 1 | 3 | 4]`.

  Returns:
    RGB, uint8 `[H, W, 3]`.

  Raises:
    DecodeError: the bytes are damaged, or the array is not an image.
  """
  return np.asarray(to_rgb(open_image(image)))


def open_image(image: bytes | np.ndarray) -> Image.Image:
  """Reads the header alone, so that a crop can be chosen before pixels are decoded."""
  if isinstance(image, np.ndarray):
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if image.dtype != np.uint8 or not (pixels.ndim == 2 or image.shape[2:] in ((3,), (4,))):
      raise DecodeError(f"array of {image.dtype} {image.shape} is not a uint8 image")
    if image.size == 0:
      raise DecodeError(f"array {image.shape} has no pixels")
    return Image.fromarray(pixels)
  try:
    return Image.open(io.BytesIO(image), formats=_FORMATS)
  except UnidentifiedImageError:
    raise DecodeError(f"it is no {', '.join(_FORMATS)} file") from None
  except _DAMAGE as error:
    raise DecodeError(str(error)) from error


def upright_size(image: Image.Image) -> tuple[int, int]:
  """Returns (height, width) in pixels after the EXIF rotation."""
  if _orientation(image) in _SIDEWAYS:
    return image.width, image.height
  return image.height, image.width


def to_rgb(image: Image.Image, shrink: float = 1.0) -> Image.Image:
  """Decodes the pixels of an image from `open_image` into upright 8-bit RGB.

  Grey and palette images become RGB; 16-bit ones keep the high byte. Transparent pixels show white,
  as a viewer shows them, because the colour that is stored under full transparency is arbitrary.

  Args:
    image: opened, its pixels not read yet.
    shrink: how many times smaller the caller needs it at most. A JPEG is then decoded at 1/2, 1/4
      or 1/8 of its size, never smaller than 1/`shrink`, which saves most of the work.

  Raises:
    DecodeError: the bytes are damaged.
  """
  try:
    if shrink > 1:
      size = math.ceil(image.width / shrink), math.ceil(image.height / shrink)
      image.draft(None, size)  # does nothing for formats other than JPEG
    image.load()
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
      image = image.transpose(_UPRIGHT[orientation])
    return _eight_bit_rgb(image)
  except _DAMAGE as error:
    raise DecodeError(str(error)) from error


def _orientation(image: Image.Image) -> int:
  try:
    return image.getexif().get(ExifTags.Base.Orientation, 1)
  except _DAMAGE:  # a damaged EXIF block says nothing about the pixels
    return 1


def _eight_bit_rgb(image: Image.Image) -> Image.Image:
  if image.mode == "RGB":
    return image
  if image.mode.startswith("I"):  # Pillow's own conversion clips 16-bit grey to 0..255
    high_byte = np.asarray(image).astype(np.int64) >> 8
    return Image.fromarray(high_byte.clip(0, 255).astype(np.uint8)).convert("RGB")
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")
