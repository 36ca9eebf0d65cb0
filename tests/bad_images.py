"""Images as they come from the world, one of each kind, among good ones: files, and records."""

import io
import struct
import zlib
from unittest import mock

import numpy as np
from PIL import Image

from speedpaper_jax.data import store

CLASSES = ("nought", "one")
SIZE = 12

NOTHING_KNOWN = "it is no JPEG, PNG, WEBP, GIF, BMP file"
CUT_OFF = ("image file is truncated", "Truncated File Read")  # by where it is noticed
# What is left out, and how the reason begins.
REASONS = {
  "truncated.jpg": CUT_OFF,
  "truncated.png": CUT_OFF,
  "empty.jpg": NOTHING_KNOWN,
  "text.jpg": NOTHING_KNOWN,
  "claims_too_much.png": "it has more than 134 million pixels",
}


def encoded(image, image_format):
  content = io.BytesIO()
  image.save(content, image_format)
  return content.getvalue()


def odd():
  """Content by name of what is odd, but an image; each has one colour, `COLOURS`."""
  return {
    "cmyk.jpg": encoded(Image.new("CMYK", (9, 7), (0, 255, 255, 0)), "JPEG"),
    "grey.jpg": encoded(Image.new("L", (9, 7), 77), "JPEG"),
    "png.jpg": encoded(Image.new("RGB", (9, 7), (10, 20, 30)), "PNG"),
    "one_pixel.png": encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"),
    "large.jpg": encoded(Image.new("L", (12_000, 9_000), 200), "JPEG"),
  }


COLOURS = {
  "cmyk.jpg": (255, 0, 0),
  "grey.jpg": (77, 77, 77),
  "png.jpg": (10, 20, 30),
  "one_pixel.png": (1, 2, 3),
  "large.jpg": (200, 200, 200),
}


def bad():
  """Content by name of what is no image: the names of `REASONS`."""
  noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
  jpeg, png = (encoded(noise, image_format) for image_format in ("JPEG", "PNG"))
  size = struct.pack(">II", 7, 9)
  place = png.index(size)
  header = b"IHDR" + struct.pack(">II", 20_000, 9_000) + png[place + 8 : place + 13]
  return {
    "truncated.jpg": jpeg[: len(jpeg) // 2],
    "truncated.png": png[: len(png) // 2],
    "empty.jpg": b"",
    "text.jpg": b"<html>404</html>",
    "claims_too_much.png": png[: place - 4]
    + header
    + struct.pack(">I", zlib.crc32(header))
    + png[place + 17 :],
  }


def good(count):
  """Content by name."""
  generator = np.random.default_rng(1)
  return {
    f"good_{number}.png": encoded(
      Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)), "PNG"
    )
    for number in range(count)
  }


def write_folder(folder, contents, held_out=2):
  """Training images of both classes by turns, and some to evaluate on."""
  for number, (name, content) in enumerate(contents.items()):
    path = folder / "train" / CLASSES[number % 2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  for number, content in enumerate(good(held_out).values()):
    path = folder / "test" / CLASSES[number % 2] / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_records(root, contents, unlabelled=()):
  """A prepared data set "pictures"; each record has the number of its name for a label, or -1."""
  data_set = store.DataSet(
    name="pictures",
    version="1.0.0",
    image_shape=(None, None, 3),
    num_classes=len(contents),
    description="Pictures.",
    homepage="https://example.org",
    citation="",
  )
  examples = [
    {"image": content, "label": -1 if name in unlabelled else number}
    for number, (name, content) in enumerate(contents.items())
  ]
  with mock.patch.object(store, "_png", io.BytesIO):  # they are encoded
    store.store(data_set, root, {"train": examples}, {"label": list(contents)})
