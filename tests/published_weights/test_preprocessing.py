"""What becomes of an image before a network: the rows' settings beside each package's own code.

tests/data/test_crop.py has sizes and shapes one by one; here images are JPEG files, read by both.
"""

import dataclasses
import io

import numpy as np
import pytest
import samples
from packages import require
from PIL import Image

from benchmarks import beside_preprocessing
from benchmarks.beside_preprocessing import difference, transform_of
from speedpaper_jax.data.normalization import DEFAULT, IMAGENET
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.published_weights import table

NAMES = [row.name for row in table.ROWS]
# In grey levels: pixels are the same, and float32 rounds their normalization.
ROUNDING = 1e-3
# What a wrong setting makes, on average, is far from that.
WRONG = 0.2


def needed(row):
  """Skips a test where the package is absent."""
  require(*{"facenet-pytorch": ["facenet"], "torchvision": []}.get(row.package, [row.package]))


def jpeg(height, width, mode="RGB", **options):
  """Large shapes with fine noise on them."""
  generator = np.random.default_rng(height * 1000 + width)
  shapes = generator.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8)
  resized = Image.fromarray(shapes).resize((width, height), Image.Resampling.BICUBIC)
  noise = generator.normal(0, 8, (height, width, 3))
  pixels = (np.asarray(resized) + noise).clip(0, 255).astype(np.uint8)
  encoded = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(encoded, "JPEG", **options)
  return encoded.getvalue()


@pytest.fixture(scope="module")
def made_up():
  return [
    jpeg(375, 500),
    jpeg(501, 333, quality=60),
    jpeg(64, 48),
    jpeg(299, 299, progressive=True),
    jpeg(240, 361, "L"),
    jpeg(361, 240, "CMYK"),
  ]


@pytest.fixture(scope="module")
def photographs():
  records = samples.imagenet("validation")
  return [records[number]["image"] for number in range(0, len(records), 8)]


@pytest.fixture(params=["made_up", "photographs"])
def images(request):
  return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_packages_own_to_the_pixel(name, images):
  row = table.find(name)
  needed(row)
  found = difference(row.preprocessing, transform_of(row), images)
  assert found.largest < ROUNDING


def changed(row, **changes):
  """The row's preprocessing with other fields of its crop, or another normalization."""
  normalization = changes.pop("normalization", row.preprocessing.normalization)
  return Preprocessing(dataclasses.replace(row.preprocessing.crop, **changes), normalization)


@pytest.mark.parametrize(
  ("name", "changes"),
  [
    ("timm/inception_v4.tf_in1k", {"interpolation": "bilinear"}),
    ("timm/inception_v4.tf_in1k", {"resize": "squash"}),
    ("timm/inception_v4.tf_in1k", {"normalization": IMAGENET}),
    ("timm/inception_resnet_v2.tf_in1k", {"central_fraction": 0.875}),
    ("timm/inception_v3.gluon_in1k", {"normalization": DEFAULT}),
    ("torchvision/googlenet", {"interpolation": "bicubic"}),
    ("torchvision/inception_v3", {"central_fraction": 0.875}),
    ("pretrainedmodels/bninception", {"normalization": DEFAULT}),
    ("pytorchcv/inceptionv3", {"central_fraction": 0.875}),
    ("facenet-pytorch/vggface2", {"interpolation": "bicubic"}),
    ("keras/inception_v3", {"central_fraction": 0.875}),
    ("keras/inception_v3", {"resize": "short_side"}),
    ("pytorch-fid/inception_v3", {"interpolation": "bilinear"}),
    ("pytorch-fid/inception_v3", {"interpolation": "bilinear_tensorflow1"}),
  ],
)
def test_another_setting_would_be_noticed(name, changes, made_up):
  row = table.find(name)
  needed(row)
  found = difference(changed(row, **changes), transform_of(row), made_up)
  assert found.mean > WRONG


def test_channels_in_another_order_would_be_noticed(made_up):
  row = table.find("pretrainedmodels/bninception")
  needed(row)
  normalization = dataclasses.replace(row.preprocessing.normalization, channels="RGB")
  found = difference(changed(row, normalization=normalization), transform_of(row), made_up)
  assert found.mean > WRONG


def test_keras_users_who_leave_load_img_its_default_have_other_pixels(photographs):
  """It takes the nearest pixel; the table has the bilinear that its accuracies are of."""
  require("keras")
  (default,) = (
    each
    for each in beside_preprocessing.comparisons()
    if each.how and each.row.name == "keras/inception_v3"
  )
  assert 2 < difference(default.row.preprocessing, default.theirs, photographs).mean < 6


def test_the_command_prints_a_row_for_each(tmp_path, monkeypatch, capsys):
  for number in range(3):
    (tmp_path / f"{number}.jpg").write_bytes(jpeg(40, 30 + number))
  row = table.find("keras/inception_v3")
  pixels = row.preprocessing.crop(jpeg(40, 30))
  ours = np.asarray(row.preprocessing.normalization.apply(pixels))
  comparisons = [
    beside_preprocessing.Comparison(row, lambda content: ours),
    beside_preprocessing.Comparison(row, lambda content: ours + 2 / 127.5, "two levels brighter"),
  ]
  monkeypatch.setattr(beside_preprocessing, "comparisons", lambda: comparisons)
  beside_preprocessing.main(
    beside_preprocessing.parse(["beside_preprocessing", str(tmp_path), "--images=1"])
  )
  lines = capsys.readouterr().out.splitlines()
  assert lines[2:4] == [
    "| keras/inception_v3 | all of it to 299², bilinear | 0 | 0 |",
    "| keras/inception_v3, two levels brighter | all of it to 299², bilinear | 2.00 | 2.00 |",
  ]
  assert lines[-1] == "Grey levels of 255, over 1 images; differences below 0.001 are 0."
