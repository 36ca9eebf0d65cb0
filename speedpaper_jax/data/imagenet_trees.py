"""ImageNet's sister data sets whose archive is a folder with one of images for each class.

Names, labels, keys and splits are those of TFDS's builders.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from speedpaper_jax.data.image_archives import Archive, Folder
from speedpaper_jax.data.image_index import Images, Split
from speedpaper_jax.data.imagenet_labels import class_identifiers
from speedpaper_jax.data.original_files import (
  Contents,
  OriginalFiles,
  found,
  label_of,
  lacking,
  progress,
)
from speedpaper_jax.errors import UserError

_SPLIT = "test"  # the only one of each


@dataclasses.dataclass(frozen=True)
class Tree:
  """One of them.

  Attributes:
    archive: name of the file.
    folder: in it, of the classes.
    images: how many there are.
    classes: how many there are.
    address: where to get the file.
    name: TFDS's name of a file, given class and file.
    key: TFDS's key of such a name.
    numbered: whether the classes' folders are called by their labels.
  """

  archive: str
  folder: str
  images: int
  classes: int
  address: str
  name: Callable[[str, str], str] = "{}/{}".format
  key: Callable[[str], str] = str
  numbered: bool = False


def _underlined(name: str) -> str:
  return name.replace("/", "_")


def _version_2(archive: str, folder: str) -> Tree:
  return Tree(
    archive=archive,
    folder=folder,
    images=10_000,
    classes=1_000,
    address=f"https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/{archive}",
    key=_underlined,
    numbered=True,
  )


TREES = {
  "imagenet_v2/matched-frequency": _version_2(
    "imagenetv2-matched-frequency.tar.gz", "imagenetv2-matched-frequency-format-val"
  ),
  "imagenet_v2/threshold-0.7": _version_2(
    "imagenetv2-threshold0.7.tar.gz", "imagenetv2-threshold0.7-format-val"
  ),
  "imagenet_v2/topimages": _version_2(
    "imagenetv2-top-images.tar.gz", "imagenetv2-top-images-format-val"
  ),
  "imagenet_a": Tree(
    archive="imagenet-a.tar",
    folder="imagenet-a",
    images=7_500,
    classes=200,
    address="https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
    name=lambda _, file: file,
  ),
  "imagenet_r": Tree(
    archive="imagenet-r.tar",
    folder="imagenet-r",
    images=30_000,
    classes=200,
    address="https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
    key=_underlined,
  ),
  "imagenet_sketch": Tree(
    archive="ImageNet-Sketch.zip",
    folder="sketch",
    images=50_889,
    classes=1_000,
    address="https://github.com/HaohanWang/ImageNet-Sketch",
  ),
}


def read(tree: Tree, files: OriginalFiles) -> Contents:
  """Finds the images; none is read yet.

  Raises:
    UserError: the files are not there, are damaged, or hold what is no part of the data set.
  """
  archive = files.find(tree.archive, [tree.folder])
  if archive is None:
    raise UserError(
      f"'{files.directory}' has neither {tree.archive} nor the folder {tree.folder} that it is "
      f"unpacked into; it is at {tree.address}."
    )
  label = _numbered if tree.numbered else label_of
  prefix = "" if isinstance(archive, Folder) else f"{tree.folder}/"
  images, labels = Images(), []
  for member in progress(archive.members(), tree.images):
    class_name, _, name = member.name.removeprefix(prefix).rpartition("/")
    if not member.name.startswith(prefix) or not class_name:
      files.left_out.add("beside the classes' folders", archive.path / member.name)
      continue
    images.add(archive, member.position, tree.name(class_name, name), member.size)
    labels.append(label(class_name, archive))
  sentence = found(_SPLIT, images, labels, archive)
  classes = len(set(labels))
  differences = lacking(archive, images, tree.images)
  if classes != tree.classes:
    differences.append(f"{archive.path} has images of {classes:,} classes, not of {tree.classes:,}")
  split = Split(_SPLIT, images, {"label": np.array(labels, np.int16)}, tree.key)
  return Contents([split], [sentence], differences)


def _numbered(class_name: str, archive: Archive) -> int:
  if class_name.isdecimal() and int(class_name) < len(class_identifiers()):
    return int(class_name)
  raise UserError(
    f"{archive.path} has the folder '{class_name}'; its classes are called by the numbers 0 to 999."
  )
