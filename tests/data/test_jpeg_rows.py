"""Rows of a JPEG below a crop are not decoded, and those of the crop are the same without them."""

import io

import numpy as np
import pytest
from PIL import Image

from speedpaper_jax.data import crop, jpeg_rows
from speedpaper_jax.data.decode import DecodeError, open_image

RESAMPLINGS = [
  Image.Resampling.BILINEAR,
  Image.Resampling.BOX,
  Image.Resampling.NEAREST,
  Image.Resampling.BICUBIC,
]
HEIGHT, WIDTH = 357, 283
TOP_HALF = (0.1, 0.0, 0.8, 0.5)


def photograph(height=HEIGHT, width=WIDTH):
  """Colours with sharp edges and noise, so that each row counts."""
  generator = np.random.default_rng(0)
  shapes = generator.integers(0, 256, (height // 9, width // 9, 3), np.uint8)
  resized = Image.fromarray(shapes).resize((width, height), Image.Resampling.NEAREST)
  noise = generator.normal(0, 20, (height, width, 3))
  return Image.fromarray((np.asarray(resized) + noise).clip(0, 255).astype(np.uint8))


def jpeg(image=None, **options):
  encoded = io.BytesIO()
  (image or photograph()).save(encoded, "JPEG", **options)
  return encoded.getvalue()


KINDS = {
  "4:4:4": jpeg(subsampling="4:4:4"),
  "4:2:2": jpeg(subsampling="4:2:2"),
  "4:2:0": jpeg(subsampling="4:2:0"),
  "4:2:0, restarts": jpeg(subsampling="4:2:0", restart_marker_rows=1),
  "optimised tables": jpeg(optimize=True),
  "grey": jpeg(photograph().convert("L")),
  "progressive": jpeg(progressive=True),
  "CMYK": jpeg(photograph().convert("CMYK")),
}
BROKEN_OFF = [kind for kind in KINDS if kind != "progressive"]


def cropped(data, box, size, resampling=Image.Resampling.BILINEAR):
  return np.asarray(crop.crop_encoded(open_image(data), box, size, resampling))


@pytest.fixture
def whole(monkeypatch):
  """`cropped` of images that are decoded whole."""

  def of_whole(*arguments):
    with monkeypatch.context() as patch:
      patch.setattr(jpeg_rows, "stop_below", lambda *_: None)
      return cropped(*arguments)

  return of_whole


@pytest.fixture
def rows(monkeypatch):
  """The heights of what is decoded."""
  found = []
  stop_below = jpeg_rows.stop_below

  def watched(image, height, bottom):
    stop_below(image, height, bottom)
    found.append(image.tile[0].extents[3])

  monkeypatch.setattr(jpeg_rows, "stop_below", watched)
  return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [20, 75, 224])
def test_pixels_are_those_of_the_whole_image(kind, size, whole):
  """At 20 pixels most are decoded at a quarter or an eighth of their size."""
  generator = np.random.default_rng(size)
  for _ in range(12):
    box = crop.random_box(HEIGHT, WIDTH, (0.02, 1.0), generator)
    for resampling in RESAMPLINGS:
      given = KINDS[kind], box, size, resampling
      np.testing.assert_array_equal(cropped(*given), whole(*given))


@pytest.mark.parametrize("kind", BROKEN_OFF)
def test_rows_below_the_crop_are_left_out(kind, rows):
  cropped(KINDS[kind], TOP_HALF, 170)
  assert HEIGHT * 0.5 < rows[-1] < HEIGHT * 0.5 + 40


def test_rows_are_left_out_of_what_is_decoded_smaller(rows):
  cropped(KINDS["4:2:0"], TOP_HALF, 40)
  assert HEIGHT / 4 * 0.5 < rows[-1] < HEIGHT / 4 * 0.5 + 10


def test_a_crop_at_the_bottom_and_the_whole_image_are_decoded_whole(rows):
  cropped(KINDS["4:4:4"], (0.0, 0.5, 1.0, 1.0), 170)
  cropped(KINDS["4:4:4"], crop.WHOLE, 100)
  assert set(rows) <= {HEIGHT}


def several_scans():
  """One scan for each component, as Pillow does not write them."""
  return KINDS["4:4:4"].replace(b"\xff\xda\x00\x0c\x03", b"\xff\xda\x00\x0c\x01")


def with_fill_bytes():
  return KINDS["4:4:4"].replace(b"\xff\xc0", b"\xff\xff\xc0")


@pytest.mark.parametrize(
  "data",
  [
    KINDS["progressive"],
    KINDS["4:4:4"][:-2],
    KINDS["4:4:4"].replace(b"\xff\xd9", b"\xff\xe9"),
    several_scans(),
    with_fill_bytes(),
    b"\xff\xd8",
    b"",
  ],
  ids=["progressive", "no end", "another marker", "several scans", "fill bytes", "start", "empty"],
)
def test_other_forms_are_left_to_pillow(data):
  assert jpeg_rows._place_of_height(data, HEIGHT) is None


def test_the_height_is_found_behind_all_that_comes_before():
  data = jpeg(comment=b"\xff\xc0\x00\x11", icc_profile=b"\xff\xda" * 40, exif=Image.Exif())
  place = jpeg_rows._place_of_height(data, HEIGHT)
  assert data[place : place + 4] == HEIGHT.to_bytes(2, "big") + WIDTH.to_bytes(2, "big")
  assert jpeg_rows._place_of_height(data, HEIGHT + 1) is None


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_file_that_was_cut_off_is_an_error_wherever_the_crop_lies(part):
  data = KINDS["4:4:4"]
  with pytest.raises(DecodeError, match="truncated"):
    cropped(data[: int(part * len(data))], TOP_HALF, 170)


def test_an_image_that_is_too_tall_for_libjpeg_is_an_error():
  size = HEIGHT.to_bytes(2, "big") + WIDTH.to_bytes(2, "big")
  data = KINDS["4:4:4"].replace(size, (65_501).to_bytes(2, "big") + WIDTH.to_bytes(2, "big"))
  with pytest.raises(DecodeError):
    cropped(data, (0.0, 0.0, 1.0, 0.01), 100)


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:0", "4:2:0, restarts", "grey"])
def test_damage_is_found_or_not_as_in_the_whole_image(kind, whole):
  generator = np.random.default_rng(1)
  outcomes = set()

  def outcome(crop_it, data):
    try:
      return crop_it(data, TOP_HALF, 60).tobytes()
    except DecodeError as error:
      return str(error)

  for _ in range(60):
    damaged = bytearray(KINDS[kind])
    place = generator.integers(2, len(damaged))
    damaged[place : place + 4] = generator.bytes(len(damaged[place : place + 4]))
    expected = outcome(whole, bytes(damaged))
    assert outcome(cropped, bytes(damaged)) == expected
    outcomes.add(type(expected))
  assert outcomes == {bytes, str} or outcomes == {bytes}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_image_is_upright(orientation, whole):
  exif = Image.Exif()
  exif[0x112] = orientation
  given = jpeg(exif=exif), TOP_HALF, 100
  np.testing.assert_array_equal(cropped(*given), whole(*given))
