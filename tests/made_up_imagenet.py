"""ImageNet in miniature: small images in archives like the official ones."""

import functools
import gzip
import io
import json
import pathlib
import tarfile
import zipfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from speedpaper_jax.data.imagenet_trees import TREES

_LISTS = pathlib.Path(tfds.__file__).parent / "datasets" / "imagenet2012"
CLASSES = (_LISTS / "labels.txt").read_text().split()
VALIDATION = (_LISTS / "validation_labels.txt").read_text().split()


def image(seed, mode="RGB", encoding="JPEG"):
  """A small image of its own, encoded."""
  pixels = np.random.default_rng(seed).integers(0, 256, (2, 2, len(mode)), np.uint8)
  large = Image.fromarray(pixels.squeeze(), mode if mode == "CMYK" else None).resize((13, 11))
  encoded = io.BytesIO()
  large.save(encoded, encoding)
  return encoded.getvalue()


def tar(members):
  """The bytes of a tar file."""
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode="w") as archive:
    for name, data in members.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return content.getvalue()


def write_zip(path, members):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in members.items():
      archive.writestr(name, data)


def train_images(classes=CLASSES, each=1):
  """By class and name."""
  return {
    name: {f"{name}_{number}.JPEG": image((number, CLASSES.index(name))) for number in range(each)}
    for name in classes
  }


def validation_images(count=5):
  return {f"ILSVRC2012_val_{number:08}.JPEG": image(number) for number in range(1, count + 1)}


@functools.cache
def small():
  """Images to train on, of all classes, and to validate on."""
  return train_images(), validation_images()


def write(directory, train, validation):
  """Writes the two official archives; the images may be None."""
  directory.mkdir(parents=True, exist_ok=True)
  if train is not None:
    classes = {f"{name}.tar": tar(images) for name, images in train.items()}
    (directory / "ILSVRC2012_img_train.tar").write_bytes(tar(classes))
  if validation is not None:
    (directory / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))


def write_folders(directory, train, validation, *, sorted_into_classes):
  """Writes what people unpack the archives into."""
  for name, images in train.items():
    (directory / "train" / name).mkdir(parents=True)
    for file, data in images.items():
      (directory / "train" / name / file).write_bytes(data)
  for number, (file, data) in enumerate(validation.items()):
    folder = directory / "val" / (VALIDATION[number] if sorted_into_classes else "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(data)


def files_of(directory):
  """Contents of the files of a directory."""
  return {path.name: path.read_bytes() for path in pathlib.Path(directory).iterdir()}


def pixels():
  """Of an image, uint8 `[4, 4, 3]`."""
  return np.zeros((4, 4, 3), np.uint8)


SISTER_CLASSES = [0, 9, 10, 500, 999]


def write_sister(directory, name):
  """Writes the archive of a sister set: an image of each of a few classes, and other files."""
  directory.mkdir(parents=True, exist_ok=True)
  if name == "imagenet2012_real":
    write(directory, None, validation_images(len(SISTER_CLASSES)))
    (directory / "real.json").write_text(json.dumps([[1], [], [2, 3], [4], [999]]))
    return
  tree = TREES[name]
  folders = {label: str(label) if tree.numbered else CLASSES[label] for label in SISTER_CLASSES}
  members = {
    f"{tree.folder}/{folder}/{label}.JPEG": image(label) for label, folder in folders.items()
  }
  path = directory / tree.archive
  if path.suffix == ".zip":
    write_zip(path, members)
  else:
    content = tar(members)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
