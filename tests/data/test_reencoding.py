"""The images of ImageNet that are no RGB JPEGs."""

import hashlib
import io

import made_up_imagenet
import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.data import reencoding
from speedpaper_jax.errors import UserError


def pixels(content):
  with Image.open(io.BytesIO(content)) as image:
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return np.asarray(image, np.int64)


def smooth(mode, encoding):
  ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
  planes = [ramp, ramp.T.copy(), ramp[:, ::-1], np.full_like(ramp, 50)][: len(mode)]
  encoded = io.BytesIO()
  Image.merge(mode, [Image.fromarray(plane) for plane in planes]).save(encoded, encoding)
  return encoded.getvalue()


def test_there_are_22_cmyk_images_and_a_png_file():
  assert len(reencoding.NAMES) == 23
  assert all(name.startswith("n") and name.endswith(".JPEG") for name in reencoding.NAMES)


def test_a_png_file_becomes_nearly_the_same_jpeg():
  original = smooth("RGB", "PNG")
  with Image.open(io.BytesIO(original)) as image:
    expected = np.asarray(image, np.int64)
  differences = np.abs(pixels(reencoding.reencoded(original, "x")) - expected)
  assert np.median(differences) <= 2  # colours are kept at half the resolution


def test_cmyk_becomes_rgb():
  original = smooth("CMYK", "JPEG")
  with Image.open(io.BytesIO(original)) as image:
    ink = 1 - np.asarray(image, np.float64) / 255
  expected = 255 * ink[..., :3] * ink[..., 3:]
  assert np.median(np.abs(pixels(reencoding.reencoded(original, "x")) - expected)) <= 2


def test_the_same_image_gives_the_same_bytes():
  digests = {
    hashlib.sha256(reencoding.reencoded(smooth("CMYK", "JPEG"), "x")).hexdigest() for _ in range(2)
  }
  assert len(digests) == 1


def test_what_cannot_be_decoded_is_named():
  with pytest.raises(UserError, match=r"^x of a.tar is damaged \(.*\); get it again\.$"):
    reencoding.reencoded(made_up_imagenet.image(0)[:50], "x of a.tar")
