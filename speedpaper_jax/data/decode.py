"""Encoded images or arrays of any kind → upright RGB, with Pillow."""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from speedpaper_jax.data import jpeg_rows

# Pixels of the largest image that is decoded: a few kilobytes can claim any size, while telephones
# make photographs of 108 million. Measured, a thread needs 4 to 9 bytes for each (13 for a rotated
# PNG in training), so 1.2 GB at most; twice as many for a WebP, which may have half the pixels.
MAX_PIXELS = 2**27

# What image data sets are made of; Pillow's readers of rarer formats fail oddly on damaged files.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
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
# Transparent pixels are laid over white in strips of about as many as these.
_STRIP = 2**20


# An image is whole, or it is an error with a reason: Pillow's warnings (of large images, of damaged
# EXIF blocks, of animations) say nothing beside that. For the process, because a filter that comes
# and goes would not be safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class DecodeError(Exception):
  """The bytes are not a whole image of a known format, or one that is too large."""


@contextlib.contextmanager
def _decode_errors() -> Iterator[None]:
  """Whatever Pillow raises means that the bytes are damaged.

  Its readers run into damage with exceptions of many kinds (AttributeError, KeyError, TypeError,
  struct.error, zlib.error, …), of which no list is complete. A lack of memory is not the bytes'
  fault.
  """
  try:
    yield
  except (DecodeError, MemoryError):
    raise
  except Image.DecompressionBombError:  # far beyond `MAX_PIXELS`
    raise _too_large(MAX_PIXELS) from None
  except UnidentifiedImageError:
    raise DecodeError(f"it is no {', '.join(_FORMATS)} file") from None
  except Exception as error:
    raise DecodeError(str(error) or type(error).__name__) from error


def decode(image: bytes | np.ndarray) -> np.ndarray:
  """Decodes an image at its full size.

  Args:
    image: an encoded JPEG, PNG, WebP, GIF or BMP, or uint8 `[H, W]` or `[H, W, 1 | 3 | 4]`.

  Returns:
    RGB, uint8 `[H, W, 3]`.

  Raises:
    DecodeError: the bytes are damaged, the image has more than `MAX_PIXELS`, or the array is not
      an image.
  """
  return np.asarray(to_rgb(open_image(image)))


def open_image(image: bytes | np.ndarray) -> Image.Image:
  """Reads the header alone, so that a crop can be chosen before pixels are decoded.

  Raises:
    DecodeError: as `decode`, as far as the header shows it.
  """
  if isinstance(image, np.ndarray):
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if image.dtype != np.uint8 or not (pixels.ndim == 2 or image.shape[2:] in ((3,), (4,))):
      raise DecodeError(f"array of {image.dtype} {image.shape} is not a uint8 image")
    if image.size == 0:
      raise DecodeError(f"array {image.shape} has no pixels")
    return Image.fromarray(pixels)
  with _decode_errors():
    opened = Image.open(io.BytesIO(image), formats=_FORMATS)
  limit = MAX_PIXELS // 2 if opened.format == "WEBP" else MAX_PIXELS
  if opened.width * opened.height > limit:
    raise _too_large(limit)
  return opened


def _too_large(limit: int) -> DecodeError:
  return DecodeError(f"it has more than {limit // 10**6} million pixels")


def upright_size(image: Image.Image) -> tuple[int, int]:
  """Returns (height, width) in pixels after the EXIF rotation.

  Raises:
    DecodeError: the bytes are damaged, as far as the rotation needs them.
  """
  if _orientation(image) in _SIDEWAYS:
    return image.width, image.height
  return image.height, image.width


def to_rgb(image: Image.Image, shrink: float = 1.0, bottom: float = 1.0) -> Image.Image:
  """Decodes the pixels of an image from `open_image` into upright 8-bit RGB.

  Grey and palette images become RGB; 16-bit ones keep the high byte. Transparent pixels show white,
  as a viewer shows them, because the colour that is stored under full transparency is arbitrary.

  Args:
    image: opened, its pixels not read yet.
    shrink: how many times smaller the caller needs it at most. A JPEG is then decoded at 1/2, 1/4
      or 1/8 of its size, never smaller than 1/`shrink`, which saves most of the work.
    bottom: the part of its height that the caller looks at, from above; what lies below may be
      undefined.

  Raises:
    DecodeError: the bytes are damaged.
  """
  orientation, height = _orientation(image), image.height
  with _decode_errors():
    if shrink > 1:
      size = math.ceil(image.width / shrink), math.ceil(image.height / shrink)
      image.draft(None, size)  # does nothing for formats other than JPEG
    if bottom < 1 and orientation not in _UPRIGHT:
      jpeg_rows.stop_below(image, height, bottom)
    image.load()
    if orientation in _UPRIGHT:
      image = image.transpose(_UPRIGHT[orientation])
    return _eight_bit_rgb(image)


def _orientation(image: Image.Image) -> int:
  # A JPEG's EXIF block stands in front of its pixels, and is read before `draft`. Elsewhere Pillow
  # decodes the pixels to look for it, and afterwards takes an image that it broke off for whole:
  # an error of the pixels must not pass for one of the block.
  if image.format not in ("JPEG", "MPO"):
    with _decode_errors():
      image.load()
  try:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # a damaged EXIF block says nothing about the pixels
    return 1
  return orientation if isinstance(orientation, int) else 1


def _eight_bit_rgb(image: Image.Image) -> Image.Image:
  if image.mode == "RGB":
    return image
  if image.mode.startswith("I"):  # Pillow's own conversion clips 16-bit grey to 0..255
    levels = np.asarray(image).clip(0, 2**16 - 1)
    return Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB")
  if image.has_transparency_data:
    return _on_white(image)
  return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
  """Strip by strip, because several copies of all pixels are more than an image may cost."""
  rgb = Image.new("RGB", image.size)
  rows = max(_STRIP // image.width, 1)
  for top in range(0, image.height, rows):
    strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
    white = Image.new("RGBA", strip.size, "white")
    rgb.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
  return rgb
