"""ImageNet and its sister sets, prepared here and by TFDS's own builders with TensorFlow.

They are the same: every file has the same records in the same order, but for a few images that TFDS
encodes again.
"""

import io
import json
import os
import signal
import subprocess
import sys

import made_up_imagenet
import numpy as np
import packages
import pytest
from array_record.python import array_record_module
from commands import TEN_MINUTES, finish, start
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from speedpaper_jax.data import imagenet, reencoding

pytestmark = pytest.mark.slow

CMYK, PNG = "n01739381_1309.JPEG", "n02105855_2933.JPEG"
SISTERS = [name for name in imagenet.NAMES if name != "imagenet2012"]

# Files of 64 KiB or more instead of 64 MiB, so that there are many of them.
SMALL_FILES = """
from tensorflow_datasets.core.utils import shard_utils
shard_utils.ShardConfig.min_shard_size = 2**16
"""
OURS = f"""
import os, signal, sys
{SMALL_FILES}
from speedpaper_jax.data import array_record_writing, prepare
files = int(os.environ["KILLED_AFTER"])
enter, entered = array_record_writing._Journal.enter, []
def enter_some(*arguments):
  enter(*arguments)
  entered.append(arguments)
  if len(entered) == files:
    os.kill(os.getpid(), signal.SIGKILL)
array_record_writing._Journal.enter = enter_some
prepare.main(prepare.parse(sys.argv))
"""
# TFDS's builders with the archives of the sister sets as if they were downloaded.
THEIRS = f"""
import pathlib, sys, tarfile
import tensorflow as tf
{SMALL_FILES}
import tensorflow_datasets as tfds
root, source, *sisters = sys.argv[1:]
def download(self, address):
  return file
def download_and_extract(self, address):
  folder = file.with_name("extracted")
  with tarfile.open(file) as archive:
    archive.extractall(folder, filter="data")
  return folder
tfds.download.DownloadManager.download = download
tfds.download.DownloadManager.download_and_extract = download_and_extract
for name in ["imagenet2012", *sisters]:
  directory = pathlib.Path(source) / name
  files = [path for path in directory.iterdir() if path.name != "ILSVRC2012_img_val.tar"]
  file = files[0]
  builder = tfds.builder(name, data_dir=root, file_format="array_record")
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=str(directory))
  )
# As TFDS encodes CMYK images again, but with the exact transform of JPEG's decoder.
image = tf.image.decode_jpeg(
  pathlib.Path(source, "cmyk.jpg").read_bytes(), dct_method="INTEGER_ACCURATE"
)
encoded = tf.image.encode_jpeg(image, format="rgb", quality=100).numpy()
pathlib.Path(root, "exact.jpg").write_bytes(encoded)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """Originals of each data set: of ImageNet 1,000 classes with three small images."""
  packages.require_tensorflow()
  directory = tmp_path_factory.mktemp("source")
  train = made_up_imagenet.train_images(each=3)
  train["n01739381"][CMYK] = made_up_imagenet.image(1, "CMYK")
  (directory / "cmyk.jpg").write_bytes(train["n01739381"][CMYK])
  train["n02105855"][PNG] = made_up_imagenet.image(2, "RGB", "PNG")
  validation = made_up_imagenet.validation_images(3000)
  made_up_imagenet.write(directory / "imagenet2012", train, validation)
  for name in SISTERS:
    made_up_imagenet.write_sister(directory / name, name)
  return directory


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, source):
  root = tmp_path_factory.mktemp("theirs")
  command = [sys.executable, "-c", THEIRS, str(root), str(source), *SISTERS]
  environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
  ended = subprocess.run(
    command, env=environment, capture_output=True, text=True, timeout=TEN_MINUTES, check=False
  )
  assert ended.returncode == 0, ended.stderr
  return root


def prepare(scratch, root, source, name, killed_after=0):
  arguments = (name, f"--from={source / name}", f"--data_dir={root}", "--incomplete")
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setenv("KILLED_AFTER", str(killed_after))
    status, _, errors = finish(start(scratch, "-c", OURS, *arguments))
  assert status == (-signal.SIGKILL if killed_after else 0), errors


def versions(root, name):
  (directory,) = (path.parent for path in (root / name).glob("*/dataset_info.json"))
  return directory


def records(path):
  """The records of a file in its order, each as its features by name."""
  reader = array_record_module.ArrayRecordReader(os.fspath(path))
  examples = [tf_example_pb2.Example.FromString(record) for record in reader.read_all()]
  reader.close()
  return [
    {name: value.SerializeToString() for name, value in example.features.feature.items()}
    for example in examples
  ]


def image_of(record):
  value = tf_example_pb2.Example.FromString(b"").features.feature["image"]
  value.ParseFromString(record["image"])
  with Image.open(io.BytesIO(value.bytes_list.value[0])) as image:
    return np.asarray(image, np.int64)


@pytest.mark.parametrize("killed_after", [(), (1,), (10, 20)])
def test_imagenet_is_the_same_also_where_it_was_killed(
  scratch, tmp_path, source, theirs, killed_after
):
  for files in killed_after:
    prepare(scratch, tmp_path, source, "imagenet2012", files)
  prepare(scratch, tmp_path, source, "imagenet2012")
  ours, others = versions(tmp_path, "imagenet2012"), versions(theirs, "imagenet2012")
  names = sorted(path.name for path in ours.iterdir())
  assert names == sorted(path.name for path in others.iterdir())
  assert sum("train" in name for name in names) == 32
  seen = 0
  for name in names:
    if "array_record" not in name:
      continue
    for own, other in zip(records(ours / name), records(others / name), strict=True):
      seen += 1
      if CMYK.encode() not in own["file_name"]:
        assert own == other
        continue
      assert own["file_name"] == other["file_name"]
      # TensorFlow's decoder has a faster transform.
      assert np.abs(image_of(own) - image_of(other)).max() <= 12
  assert seen == 3002 + 3000
  expect_the_same_description(ours, others)


def test_nothing_but_that_transform_is_another_for_cmyk_images(source, theirs):
  ours = reencoding.reencoded((source / "cmyk.jpg").read_bytes(), "cmyk.jpg")
  assert ours == (theirs / "exact.jpg").read_bytes()


@pytest.mark.parametrize("name", SISTERS)
def test_the_sister_sets_are_the_same(scratch, tmp_path, source, theirs, name):
  prepare(scratch, tmp_path, source, name)
  ours, others = versions(tmp_path, name), versions(theirs, name)
  names = sorted(path.name for path in ours.iterdir())
  assert names == sorted(path.name for path in others.iterdir())
  for file in names:
    if "array_record" in file:
      assert records(ours / file) == records(others / file)
  expect_the_same_description(ours, others)


def expect_the_same_description(ours, others):
  for path in ours.iterdir():
    if path.suffix == ".txt" or path.name == "features.json":
      assert path.read_text() == (others / path.name).read_text()
  own, other = (json.loads((each / "dataset_info.json").read_text()) for each in (ours, others))
  for split, of_them in zip(own["splits"], other["splits"], strict=True):
    # One image is encoded again.
    assert abs(int(split.pop("numBytes")) - int(of_them.pop("numBytes"))) < 100
  assert own == other
