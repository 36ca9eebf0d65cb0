"""Any image file → upright RGB."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from speedpaper_jax.data.decode import DecodeError, decode, open_image, to_rgb, upright_size


def encode(image, image_format="PNG", **options):
  encoded = io.BytesIO()
  image.save(encoded, image_format, **options)
  return encoded.getvalue()


def gradient(height, width):
  """A photo-like RGB image: smooth, so that JPEG changes it little."""
  y, x = np.mgrid[0:height, 0:width]
  channels = (255 * x / width, 255 * y / height, 255 * (x + y) / (width + height))
  return np.stack(channels, axis=-1).astype(np.uint8)


def test_rgb_png_is_exact():
  pixels = gradient(5, 7)
  np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_arrays_become_rgb(shape):
  grey = np.arange(35, dtype=np.uint8).reshape(shape)
  expected = np.repeat(grey.reshape(5, 7, 1), 3, axis=-1)
  np.testing.assert_array_equal(decode(grey), expected)


def test_grey_png_and_jpeg_become_rgb():
  grey = Image.new("L", (6, 6), 77)
  for image_format in ("PNG", "JPEG"):
    assert (decode(encode(grey, image_format)) == 77).all()


def test_black_and_white_becomes_rgb():
  assert (decode(encode(Image.new("1", (4, 4), 1))) == 255).all()


def test_sixteen_bit_grey_keeps_the_high_byte():
  levels = np.array([[0, 255, 256], [0x7F80, 0xFF00, 0xFFFF]], np.uint16)
  np.testing.assert_array_equal(decode(encode(Image.fromarray(levels)))[..., 0], levels >> 8)


def test_palette_becomes_its_colours():
  image = Image.new("P", (3, 3), 1)
  image.putpalette([0, 0, 0, 10, 20, 30])
  assert (decode(encode(image)) == [10, 20, 30]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_white(mode):
  image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
  image.putpixel((0, 0), (0, 0, 0, 0))
  pixels = decode(encode(image.convert(mode)))
  np.testing.assert_array_equal(pixels[0], [[255] * 3, [0] * 3])


def test_a_transparent_palette_entry_shows_white():
  image = Image.new("P", (2, 2), 0)
  image.putpalette([1, 2, 3])
  assert (decode(encode(image, transparency=0)) == 255).all()


def test_cmyk_jpeg_becomes_rgb():
  red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
  np.testing.assert_allclose(decode(encode(red, "JPEG"))[4, 4], [255, 0, 0], atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
  image = Image.fromarray(gradient(4, 6))
  image.getexif()[0x0112] = orientation
  encoded = encode(image, exif=image.getexif())
  upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
  assert upright_size(open_image(encoded)) == upright.shape[:2]
  np.testing.assert_array_equal(decode(encoded), upright)


def test_a_rotated_jpeg_is_also_decoded_at_a_smaller_scale():
  exif = Image.Exif()
  exif[0x0112] = 6
  encoded = encode(Image.fromarray(gradient(64, 128)), "JPEG", exif=exif)
  assert to_rgb(open_image(encoded), 4).size == (16, 32)


def test_one_pixel_is_an_image():
  assert decode(encode(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_the_first_frame_of_an_animation_is_the_image():
  frames = [Image.new("L", (3, 3), 10), Image.new("L", (3, 3), 200)]
  encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
  assert (decode(encoded) == 10).all()


@pytest.mark.parametrize(("shrink", "size"), [(1, 256), (1.9, 256), (2, 128), (5, 64), (100, 32)])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_large_enough(shrink, size):
  encoded = encode(Image.fromarray(gradient(256, 256)), "JPEG", quality=95)
  assert to_rgb(open_image(encoded), shrink).size == (size, size)


def test_decoding_at_a_smaller_scale_is_close_to_resizing():
  encoded = encode(Image.fromarray(gradient(256, 256)), "JPEG", quality=95)
  half = np.asarray(to_rgb(open_image(encoded), 2)).astype(int)
  resized = Image.fromarray(decode(encoded)).resize((128, 128), Image.Resampling.BOX)
  assert np.abs(half - np.asarray(resized)).max() <= 4


def test_other_formats_are_decoded_at_full_size():
  encoded = encode(Image.fromarray(gradient(64, 64)))
  assert to_rgb(open_image(encoded), 4).size == (64, 64)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_a_decode_error(image_format, kept):
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  encoded = encode(Image.fromarray(noise), image_format)
  with pytest.raises(DecodeError):
    decode(encoded[: int(kept * len(encoded))])


def test_damaged_bytes_decode_or_are_a_decode_error():
  generator = np.random.default_rng(0)
  noise = generator.integers(0, 256, (16, 16, 3), np.uint8)
  errors = 0
  for image_format in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
    encoded = encode(Image.fromarray(noise), image_format)
    for _ in range(100):
      damaged = bytearray(encoded)
      damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
      try:
        assert decode(bytes(damaged)).shape[-1] == 3
      except DecodeError:
        errors += 1
  assert errors > 50


@pytest.mark.parametrize("garbage", [b"", b"\0" * 1000, b"<html>not found</html>"])
def test_garbage_is_a_decode_error(garbage):
  with pytest.raises(DecodeError):
    decode(garbage)


@pytest.mark.parametrize(
  "array",
  [
    np.zeros((4, 4, 3), np.float32),
    np.zeros((4, 4, 2), np.uint8),
    np.zeros(4, np.uint8),
    np.zeros((0, 4, 3), np.uint8),
  ],
)
def test_an_array_that_is_no_image_is_a_decode_error(array):
  with pytest.raises(DecodeError):
    decode(array)
