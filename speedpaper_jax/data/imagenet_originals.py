"""ImageNet and its sister data sets as their authors publish them, and as people unpack them.

Names, labels, keys and splits are those of TFDS's builders, which read the same files through
TensorFlow; docs/imagenet.md says where to get them.
"""

from collections.abc import Iterator

import numpy as np

from speedpaper_jax.data import imagenet_trees, paths, real_labels, reencoding
from speedpaper_jax.data.image_archives import Archive, Member, Tar
from speedpaper_jax.data.image_files import LeftOut
from speedpaper_jax.data.image_index import Images, Integers, Split
from speedpaper_jax.data.imagenet_labels import (
  COUNTS,
  class_identifiers,
  listed_label,
  validation_number,
)
from speedpaper_jax.data.imagenet_trees import TREES
from speedpaper_jax.data.original_files import (
  Contents,
  OriginalFiles,
  found,
  label_of,
  lacking,
  listed,
  progress,
)
from speedpaper_jax.errors import UserError

IMAGENET = "imagenet2012"
REAL = "imagenet2012_real"
NAMES = (IMAGENET, REAL, *TREES)

_ADDRESS = "https://image-net.org/download-images, after registration"
_REAL_ADDRESS = "https://github.com/google-research/reassessed-imagenet"
_TARS = {
  "train": "ILSVRC2012_img_train.tar",
  "validation": "ILSVRC2012_img_val.tar",
  "test": "ILSVRC2012_img_test.tar",
}
# The first that is there is taken.
_FOLDERS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}


def read(name: str, files: OriginalFiles) -> Contents:
  """Finds the images of a data set; no image is read yet, but for those that are encoded again.

  Args:
    name: one of `NAMES`.
    files: the original ones.

  Raises:
    UserError: they are not there, are damaged, or hold what is no part of the data set.
  """
  if not paths.is_directory(files.directory):
    raise UserError(f"There is no folder '{files.directory}'; give the one with {wanted(name)}.")
  if name == IMAGENET:
    return _imagenet2012(files)
  if name == REAL:
    return _real(files)
  return imagenet_trees.read(TREES[name], files)


def wanted(name: str) -> str:
  """Which files a data set is made of, and where they are, within a sentence."""
  if name in TREES:
    return f"{TREES[name].archive}, which is at {TREES[name].address}"
  if name == REAL:
    return (
      f"{_TARS['validation']}, which is at {_ADDRESS}, and real.json, which is at {_REAL_ADDRESS}"
    )
  return f"{_TARS['train']} and {_TARS['validation']}, which are at {_ADDRESS}"


def _imagenet2012(files: OriginalFiles) -> Contents:
  splits, sentences, differences = [], [], []
  for split, read_split in (("train", _train), ("validation", _validation), ("test", _test)):
    archive = files.find(_TARS[split], _FOLDERS[split])
    if archive is None:
      if split != "test":
        differences.append(
          f"'{files.directory}' has neither {_TARS[split]} nor the folder {_FOLDERS[split][0]}"
        )
      continue
    images, labels = read_split(archive, files.left_out)
    splits.append(Split(split, images, {"label": np.array(labels, np.int16)}))
    sentences.append(found(split, images, labels, archive))
    differences += lacking(archive, images, COUNTS[split])
    if split == "train":
      differences += _missing_classes(labels, archive)
  if not splits:
    raise UserError(
      f"'{files.directory}' has neither {_TARS['train']} nor {_TARS['validation']}, nor the "
      f"folders train/n01440764, … and val that they are unpacked into; they are at {_ADDRESS}."
    )
  return Contents(splits, sentences, differences)


def _train(archive: Archive, left_out: LeftOut) -> tuple[Images, list[int]]:
  images, labels, to_encode = Images(), [], []
  for class_name, member in progress(_by_class(archive, left_out), COUNTS["train"]):
    name = member.name.rpartition("/")[2]
    if name in reencoding.NAMES:
      to_encode.append(len(images))
    images.add(archive, member.position, name, member.size)
    labels.append(label_of(class_name, archive))
  for index in to_encode:
    images.replace(index, reencoding.reencoded(images.read(index), images.path(index)))
  return images, labels


def _by_class(archive: Archive, left_out: LeftOut) -> Iterator[tuple[str, Member]]:
  """Images with their classes; tar files of other names are told before the long reading."""
  if isinstance(archive, Tar):
    parts = [(part.name.removesuffix(".tar"), part) for part in archive.tar_files()]
    for class_name, _ in parts:
      label_of(class_name, archive)
    for class_name, part in parts:
      for member in archive.members_of(part):
        yield class_name, member
    return
  for member in archive.members():
    class_name, _, name = member.name.rpartition("/")
    if class_name:
      yield class_name, member
    else:
      left_out.add("beside the classes' folders", archive.path / name)


def _missing_classes(labels: list[int], archive: Archive) -> list[str]:
  present = set(labels)
  missing = [name for name, label in class_identifiers().items() if label not in present]
  if not missing:
    return []
  return [f"{archive.path} lacks {len(missing):,} of the 1,000 classes ({listed(missing)})"]


def _validation(archive: Archive, left_out: LeftOut) -> tuple[Images, list[int]]:
  del left_out  # whatever is an image is one of the split
  images, labels, disagreeing = Images(), [], []
  for member in progress(archive.members(), COUNTS["validation"]):
    folder, _, name = member.name.rpartition("/")
    in_list = listed_label(name)
    label = class_identifiers().get(folder.rpartition("/")[2], in_list)
    if label is None:
      raise UserError(
        f"{archive.path} has the image '{member.name}', whose label is not known; the validation "
        "images are called ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG, or lie in "
        "folders called by their classes, such as n01440764."
      )
    if in_list not in (label, None):
      disagreeing.append(member.name)
    images.add(archive, member.position, name, member.size)
    labels.append(label)
  if disagreeing:
    raise UserError(
      f"{archive.path} has images in folders of other classes than TFDS's list of the validation "
      f"labels has, {len(disagreeing):,} in all ({listed(disagreeing)}); sort "
      f"{_TARS['validation']} anew."
    )
  return images, labels


def _test(archive: Archive, left_out: LeftOut) -> tuple[Images, list[int]]:
  del left_out
  images = Images()
  for member in progress(archive.members(), COUNTS["test"]):
    images.add(archive, member.position, member.name, member.size)
  return images, [-1] * len(images)  # TFDS's word for no label


def _real(files: OriginalFiles) -> Contents:
  archive = files.find(_TARS["validation"], _FOLDERS["validation"])
  if archive is None:
    raise UserError(f"'{files.directory}' is not complete; give the folder with {wanted(REAL)}.")
  path = files.directory / "real.json"
  real = real_labels.read(path)
  images, labels = _validation(archive, files.left_out)
  sentence = found("validation", images, labels, archive)
  of_images = []
  for name in images.names:
    number = validation_number(name)
    if number is None or number > len(real):
      raise UserError(
        f"{path} has no labels for the image '{name}' of {archive.path}; get it again."
      )
    of_images.append(real[number - 1])
  integers: dict[str, Integers] = {
    "original_label": np.array(labels, np.int16),
    "real_label": of_images,
  }
  differences = lacking(archive, images, COUNTS["validation"])
  return Contents([Split("validation", images, integers)], [sentence], differences)
