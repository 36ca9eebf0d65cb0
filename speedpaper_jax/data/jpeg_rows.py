"""JPEGs are decoded from above as far as a crop needs them, with Pillow.

libjpeg would decode every bit of an image, also of the rows below a crop. Pillow cannot be told to
stop, but its decoder believes the height that the file's header names: the rows above come out the
same, to the bit. Rows above a crop cannot be left out, because the bits of a sequential JPEG only
make sense one after the other.
"""

import io
import math
import re

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

# The colours of a row are mixed with those of its neighbours, of which the last row has none.
_NEIGHBOURS = 2
_COARSEST_SCALE = 8
_TALLEST = 65_500  # rows; libjpeg refuses more
# 0xFF and what makes it a marker; among the bits of an image it is followed by 0, or it restarts.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SEQUENTIAL_FRAMES = (0xC0, 0xC1)
_TABLES_AND_TEXTS = (0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def stop_below(image: Image.Image, height: int, bottom: float) -> None:
  """Makes Pillow leave out the rows of an opened JPEG that are not needed.

  An image is left as it is if it is of another format, progressive or in several scans, or if its
  bits do not last to an end of the image: Pillow is to find out what is wrong with those.

  Args:
    image: as `decode.open_image` gives it, its pixels not read yet; `draft` may have been called.
    height: of the image as the file has it, in pixels.
    bottom: the part that is needed, from above; what lies below is undefined afterwards.
  """
  # A whole number of rows at each scale.
  rows = math.ceil((bottom * height + _NEIGHBOURS) / _COARSEST_SCALE) * _COARSEST_SCALE
  if not rows < height <= _TALLEST:
    return
  if image.format != "JPEG" or not isinstance(image, JpegImageFile):
    return
  if not isinstance(image.fp, io.BytesIO) or len(image.tile) != 1:
    return
  place = _place_of_height(image.fp.getvalue(), height)
  if place is None:
    return
  image.fp.seek(place)
  image.fp.write(rows.to_bytes(2, "big"))
  scale = image.decoderconfig[0] if image.decoderconfig else 1
  image.tile = [image.tile[0]._replace(extents=(0, 0, image.width, rows // scale))]


def _place_of_height(data: bytes, height: int) -> int | None:
  """Where the height stands in a JPEG that can be broken off; None in any other."""
  frame, at = None, 2
  while at + 10 <= len(data) and data[at] == 0xFF:
    marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
    if marker in _SEQUENTIAL_FRAMES:
      frame = at
    elif marker == _START_OF_SCAN:
      found = _MARKER.search(data, at + 2 + length)
      whole = found is not None and found[0][1] == _END_OF_IMAGE
      if frame is None or not whole:
        return None
      as_read = int.from_bytes(data[frame + 5 : frame + 7], "big") == height
      one_scan = data[frame + 9] == data[at + 4]  # it has all components
      return frame + 5 if as_read and one_scan else None
    elif marker not in _TABLES_AND_TEXTS:
      return None
    at += 2 + length
  return None
