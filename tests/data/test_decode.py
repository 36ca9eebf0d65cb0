"""Any image file → upright RGB."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from speedpaper_jax.data.augment import augment
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.decode import (
  MAX_PIXELS,
  DecodeError,
  decode,
  open_image,
  to_rgb,
  upright_size,
)


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


def png_chunk(name, content):
  return (
    struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
  )


def png(*chunks, width=4, height=4, depth=8, colour=2, rows=None):
  """A PNG of black pixels with chunks of any kind before them."""
  if rows is None:
    rows = b"\0" * ((width * (3 if colour == 2 else 1) + 1) * height)
  header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    [
      png_chunk(b"IHDR", header),
      *(png_chunk(*chunk) for chunk in chunks),
      png_chunk(b"IDAT", zlib.compress(rows)),
      png_chunk(b"IEND", b""),
    ]
  )


def ways_to_read(image):
  """Evaluation's two ways and training's five, each to be called."""
  for resize in ("squash", "short_side"):
    yield lambda resize=resize: EvaluationCrop(8, 0.875, resize)(image)
  for crop in ("none", "central", "random", "shift", "area"):
    augmentation = Augmentation(crop, shift=1, crop_fraction=0.875)
    yield lambda way=augmentation: augment(image, 8, way, np.random.default_rng(0))


class TestTrainingRefusesWhatEvaluationRefuses:
  """In training a rotation is looked for before the pixels are decoded, a JPEG's at a scale."""

  def test_a_png_with_a_flipped_bit(self):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    encoded = encode(Image.fromarray(noise))
    for position in range(len(encoded) // 4, len(encoded) - 40, len(encoded) // 40):
      damaged = bytearray(encoded)
      damaged[position] ^= 4
      for read in ways_to_read(bytes(damaged)):
        with pytest.raises(DecodeError):
          read()

  @pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
  @pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.97])
  @pytest.mark.parametrize("progressive", [False, True])
  def test_a_truncated_file(self, image_format, kept, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    options = {"progressive": True} if progressive and image_format == "JPEG" else {}
    encoded = encode(Image.fromarray(noise), image_format, **options)
    for read in ways_to_read(encoded[: int(kept * len(encoded))]):
      with pytest.raises(DecodeError):
        read()

  def test_a_broken_image_is_not_whole_when_it_is_looked_at_again(self):
    encoded = encode(Image.fromarray(gradient(32, 32)))
    damaged = encoded[:60] + b"\0\0\0\0" + encoded[64:]
    opened = open_image(damaged)
    with pytest.raises(DecodeError):
      upright_size(opened)

  def test_an_orientation_behind_the_pixels_counts(self):
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = encode(Image.fromarray(gradient(4, 6)))
    end = len(encoded) - 12
    moved = encoded[:end] + png_chunk(b"eXIf", exif.tobytes()[6:]) + encoded[end:]
    assert upright_size(open_image(moved)) == (6, 4)
    assert decode(moved).shape == (6, 4, 3)

  @pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 40]
  )
  @pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
  def test_a_damaged_exif_block_says_nothing_about_the_pixels(self, exif, image_format):
    encoded = encode(Image.new("RGB", (8, 8), (9, 9, 9)), image_format, exif=exif)
    for read in ways_to_read(encoded):
      assert read().shape == (8, 8, 3)


class TestWhateverPillowRaises:
  """AttributeError, KeyError, TypeError, …: the bytes are damaged, and nothing else happened."""

  @pytest.mark.parametrize(
    "damaged",
    [
      pytest.param(png(colour=3), id="no_palette"),
      pytest.param(png((b"PLTE", b""), colour=3), id="empty_palette"),
      pytest.param(png((b"tRNS", b""), colour=3), id="transparency_without_palette"),
      pytest.param(png(depth=3), id="depth_3"),
      pytest.param(png(colour=5), id="colour_type_5"),
      pytest.param(png(width=0), id="width_0"),
      pytest.param(png(height=2**31, rows=b""), id="height_2_31"),
      pytest.param(png((b"tRNS", b"\1")), id="short_transparency"),
      pytest.param(png((b"iTXt", b"a\0\1\0\0\0damaged")), id="compressed_text"),
      pytest.param(png((b"zTXt", b"a\0\7damaged")), id="compression_method_7"),
      pytest.param(png((b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21)))), id="text_bomb"),
      pytest.param(png((b"iCCP", b"a\0\7damaged")), id="colour_profile"),
      pytest.param(png((b"acTL", b"\0")), id="short_animation"),
      pytest.param(png((b"fcTL", b"\0" * 26)), id="frame_outside_animation"),
      pytest.param(png((b"pHYs", b"\0")), id="short_density"),
      pytest.param(png((b"gAMA", b"")), id="empty_gamma"),
      pytest.param(png((b"cHRM", b"\0")), id="short_chromaticities"),
      pytest.param(png((b"sRGB", b"")), id="empty_srgb"),
      pytest.param(png(rows=b"\0"), id="one_byte_of_pixels"),
      pytest.param(png(rows=b"\7" * 52), id="filter_type_7"),
      pytest.param(b"GIF89a" + b"\0" * 20, id="gif_without_size"),
      pytest.param(b"BM" + b"\xff" * 60, id="bmp_of_ones"),
      pytest.param(b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 40, id="webp_of_ones"),
      pytest.param(b"\xff\xd8\xff\xe0\0\x02\xff\xc0\0\x02", id="jpeg_of_markers"),
    ],
  )
  def test_the_image_is_read_alike_in_all_ways_or_damaged_in_all(self, damaged):
    outcomes = set()
    for read in ways_to_read(damaged):
      try:
        outcomes.add(read().shape)
      except DecodeError:
        outcomes.add("damaged")
    assert len(outcomes) == 1

  @pytest.mark.parametrize("kind", [AttributeError, KeyError, TypeError, OverflowError, Warning])
  @pytest.mark.parametrize("method", ["open", "load", "getexif"])
  def test_of_any_kind(self, monkeypatch, kind, method):
    def fail(*arguments, **named):
      raise kind

    owner = Image if method == "open" else Image.Image
    encoded = encode(Image.new("RGB", (8, 8)), "BMP")
    monkeypatch.setattr(owner, method, fail)
    if method == "getexif":  # not about the pixels
      assert decode(encoded).shape == (8, 8, 3)
    else:
      with pytest.raises(DecodeError, match=kind.__name__):
        decode(encoded)

  def test_a_lack_of_memory_is_not_the_bytes_fault(self, monkeypatch):
    def fail(*arguments, **named):
      raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
      decode(b"")

  def test_a_warning_is_neither_seen_nor_an_error(self, tmp_path):
    """Where all warnings are errors, too: -W error."""
    large = Image.new("1", (9500, 9500))  # more than Pillow's 89 million pixels
    (tmp_path / "large").write_bytes(encode(large))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x0f\x01\x02\0\xff\xff\0\0\xff\xff\0\0"
    (tmp_path / "exif").write_bytes(encode(Image.new("RGB", (8, 8)), "JPEG", exif=exif))
    (tmp_path / "animation").write_bytes(png((b"acTL", b"\0" * 8)))
    program = """
import pathlib, sys
from speedpaper_jax.data.decode import open_image, upright_size
for path in map(pathlib.Path, sys.argv[1:]):
  upright_size(open_image(path.read_bytes()))
"""
    names = ("large", "exif", "animation")
    for options in ((), ("-W", "error")):
      finished = subprocess.run(
        [sys.executable, *options, "-c", program, *(tmp_path / name for name in names)],
        capture_output=True,
        text=True,
      )
      assert (finished.returncode, finished.stderr) == (0, "")


class TestSize:
  """Decided by the header, before memory is asked for."""

  @pytest.mark.parametrize(
    ("width", "height"),
    [(13_000, 13_000), (2**27 + 1, 1), (20_000, 20_000), (2**31 - 1, 2**31 - 1)],
  )
  def test_an_image_of_more_pixels_is_refused(self, width, height):
    bomb = png(width=width, height=height, rows=b"")
    for read in ways_to_read(bomb):
      with pytest.raises(DecodeError, match="it has more than 134 million pixels"):
        read()

  def test_a_webp_may_have_half_as_many(self):
    bomb = bytearray(encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    bomb[21:25] = struct.pack("<I", (9_000 - 1) | (9_000 - 1) << 14)
    with pytest.raises(DecodeError, match="it has more than 67 million pixels"):
      open_image(bytes(bomb))

  def test_a_photograph_of_108_million_pixels_is_not(self):
    assert MAX_PIXELS > 12_000 * 9_000
    assert open_image(png(width=12_000, height=9_000, rows=b"")).size == (12_000, 9_000)

  def test_transparency_is_laid_over_white_in_strips_of_whole_rows(self):
    y, x = np.mgrid[0:40, 0:30_000]
    pixels = np.stack([x % 256, y % 256, x % 7, (x + 16 * y) % 256], -1).astype(np.uint8)
    whole = Image.alpha_composite(
      Image.new("RGBA", (30_000, 40), "white"), Image.fromarray(pixels)
    ).convert("RGB")
    np.testing.assert_array_equal(decode(pixels), np.asarray(whole))


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
