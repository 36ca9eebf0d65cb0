"""The data sets that are prepared from their original files: where those are and what they hold.

Addresses and SHA-256 sums are those of tensorflow-datasets 4.9.10 (`url_checksums/*.txt`), names,
versions, features and the order of the records those of its builders, so that plain TFDS reads the
result as its own. The parsing is done here because those builders open files and encode images
through TensorFlow.
"""

import dataclasses
import gzip
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from speedpaper_jax.data.store import DataSet
from speedpaper_jax.errors import UserError

_LABEL_MAGIC = 2049
_IMAGE_MAGIC = 2051

Examples = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Contents:
  """What the original files hold.

  Attributes:
    splits: examples in the original order; "image" is uint8 `[H, W, C]`.
    class_names: of each label feature whose classes have names.
  """

  splits: Mapping[str, Examples]
  class_names: Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Original:
  """A data set and its original files.

  Attributes:
    data_set: what is written.
    address: URL of the directory that holds the files, ending in "/".
    sha256: of each file.
    read: reads the files in a directory; raises UserError when they are damaged.
  """

  data_set: DataSet
  address: str
  sha256: Mapping[str, str]
  read: Callable[[Path], Contents]


def read_idx(directory: Path, class_names: list[str] | None = None) -> Contents:
  """Reads the four files of MNIST or Fashion-MNIST."""
  splits = {}
  for split, prefix in (("train", "train"), ("test", "t10k")):
    images_path = directory / f"{prefix}-images-idx3-ubyte.gz"
    labels_path = directory / f"{prefix}-labels-idx1-ubyte.gz"
    images = _read_idx_array(images_path, _IMAGE_MAGIC, (28, 28))
    labels = _read_idx_array(labels_path, _LABEL_MAGIC, ())
    if len(images) != len(labels):
      raise UserError(
        f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels; "
        "give the files of one data set."
      )
    _check_labels(labels, 10, labels_path)
    splits[split] = [
      {"image": image[..., np.newaxis], "label": int(label)}
      for image, label in zip(images, labels, strict=True)
    ]
  return Contents(splits, {"label": class_names} if class_names else {})


def _read_idx_array(path: Path, magic: int, item_shape: tuple[int, ...]) -> np.ndarray:
  """Reads a gzipped idx file: big-endian magic number, sizes, then bytes."""
  try:
    content = gzip.decompress(path.read_bytes())
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(_damaged(path, error)) from error
  header = struct.Struct(f">{2 + len(item_shape)}i")
  if len(content) < header.size:
    raise UserError(_damaged(path, "it ends within the header"))
  found_magic, count, *found_shape = header.unpack_from(content)
  if found_magic != magic or tuple(found_shape) != item_shape:
    raise UserError(_damaged(path, f"the header is {(found_magic, count, *found_shape)}"))
  values = np.frombuffer(content, np.uint8, offset=header.size)
  if count < 1 or values.size != count * int(np.prod(item_shape)):
    raise UserError(_damaged(path, f"{values.size} bytes for {count} items"))
  return values.reshape(count, *item_shape)


@dataclasses.dataclass(frozen=True)
class _CifarFiles:
  """What one of the two CIFAR archives holds; a record is its labels and then the image."""

  archive: str
  folder: str
  train: tuple[str, ...]
  test: tuple[str, ...]
  # Label feature → file with the names, and their number; in the order of a record's labels.
  names: Mapping[str, tuple[str, int]]


_CIFAR10_FILES = _CifarFiles(
  archive="cifar-10-binary.tar.gz",
  folder="cifar-10-batches-bin",
  train=tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)),
  test=("test_batch.bin",),
  names={"label": ("batches.meta.txt", 10)},
)
_CIFAR100_FILES = _CifarFiles(
  archive="cifar-100-binary.tar.gz",
  folder="cifar-100-binary",
  train=("train.bin",),
  test=("test.bin",),
  names={"coarse_label": ("coarse_label_names.txt", 20), "label": ("fine_label_names.txt", 100)},
)


def read_cifar(directory: Path, files: _CifarFiles) -> Contents:
  """Reads the archive of CIFAR-10 or CIFAR-100 in its binary version."""
  path = directory / files.archive
  names_files = [name for name, _ in files.names.values()]
  wanted = {f"{files.folder}/{name}" for name in (*files.train, *files.test, *names_files)}
  try:
    with tarfile.open(path, "r:gz") as archive:
      members = {
        Path(member.name).name: file.read()
        for member in archive
        if member.name in wanted and (file := archive.extractfile(member))
      }
  except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
    raise UserError(_damaged(path, error)) from error
  if missing := sorted(wanted - {f"{files.folder}/{name}" for name in members}):
    raise UserError(_damaged(path, f"it lacks {missing[0]}"))
  class_names = {}
  for feature, (name, num_classes) in files.names.items():
    class_names[feature] = members[name].decode(errors="replace").split()
    if len(class_names[feature]) != num_classes:
      raise UserError(_damaged(path, f"{name} has {len(class_names[feature])} names"))
  splits = {}
  for split, names in (("train", files.train), ("test", files.test)):
    records = b"".join(members[name] for name in names)
    splits[split] = _cifar_examples(records, split, class_names, path)
  return Contents(splits, class_names)


def _cifar_examples(
  content: bytes, split: str, class_names: Mapping[str, list[str]], path: Path
) -> Examples:
  record_size = len(class_names) + 3 * 32 * 32
  if not content or len(content) % record_size:
    raise UserError(_damaged(path, f"{len(content)} bytes in split {split}"))
  records = np.frombuffer(content, np.uint8).reshape(-1, record_size)
  labels, pixels = np.split(records, [len(class_names)], axis=1)
  for column, names in zip(labels.T, class_names.values(), strict=True):
    _check_labels(column, len(names), path)
  images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return [
    {
      "id": f"{split}_{index:05d}",
      "image": image,
      **{feature: int(value) for feature, value in zip(class_names, values, strict=True)},
    }
    for index, (image, values) in enumerate(zip(images, labels, strict=True))
  ]


def _check_labels(labels: np.ndarray, num_classes: int, path: Path) -> None:
  if labels.max() >= num_classes:
    raise UserError(_damaged(path, f"the label {labels.max()} is not below {num_classes}"))


def _damaged(path: Path, what: object) -> str:
  return f"{path} is damaged ({what}); get it again."


_MNIST = Original(
  data_set=DataSet(
    name="mnist",
    version="3.0.1",
    image_shape=(28, 28, 1),
    num_classes=10,
    description="The MNIST database of handwritten digits.",
    homepage="http://yann.lecun.com/exdb/mnist/",
    citation=(
      "@article{lecun2010mnist,\n  title={MNIST handwritten digit database},\n"
      "  author={LeCun, Yann and Cortes, Corinna and Burges, CJ},\n  year={2010}\n}"
    ),
  ),
  address="https://storage.googleapis.com/cvdf-datasets/mnist/",
  sha256={
    "train-images-idx3-ubyte.gz": (
      "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
      "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
      "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
      "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
  },
  read=read_idx,
)

_FASHION_MNIST_CLASSES = [
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
]
_FASHION_MNIST = Original(
  data_set=DataSet(
    name="fashion_mnist",
    version="3.0.1",
    image_shape=(28, 28, 1),
    num_classes=10,
    description="Zalando's article images, 28x28 grey, in ten classes of clothing.",
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    citation=(
      "@article{xiao2017fashion,\n  author={Xiao, Han and Rasul, Kashif and Vollgraf, Roland},\n"
      "  title={Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning"
      " Algorithms},\n  journal={arXiv:1708.07747},\n  year={2017}\n}"
    ),
  ),
  address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
  sha256={
    "train-images-idx3-ubyte.gz": (
      "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
      "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
      "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
      "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
  },
  read=lambda directory: read_idx(directory, _FASHION_MNIST_CLASSES),
)


def _cifar(
  name: str,
  description: str,
  num_classes: int,
  files: _CifarFiles,
  sha256: str,
  more_features: Mapping[str, tfds.features.FeatureConnector],
) -> Original:
  return Original(
    data_set=DataSet(
      name=name,
      version="3.0.2",
      image_shape=(32, 32, 3),
      num_classes=num_classes,
      description=description,
      homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
      citation=(
        "@techreport{krizhevsky2009learning,\n  author={Krizhevsky, Alex},\n"
        "  title={Learning multiple layers of features from tiny images},\n  year={2009}\n}"
      ),
      more_features=more_features,
    ),
    address="https://www.cs.toronto.edu/~kriz/",
    sha256={files.archive: sha256},
    read=lambda directory: read_cifar(directory, files),
  )


_CIFAR10 = _cifar(
  "cifar10",
  "60,000 colour images of 32x32 pixels in 10 classes.",
  10,
  _CIFAR10_FILES,
  "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
  {"id": tfds.features.Text()},
)
_CIFAR100 = _cifar(
  "cifar100",
  "60,000 colour images of 32x32 pixels in 100 classes of 20 superclasses.",
  100,
  _CIFAR100_FILES,
  "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
  {"id": tfds.features.Text(), "coarse_label": tfds.features.ClassLabel(num_classes=20)},
)

ORIGINALS = {
  original.data_set.name: original for original in (_MNIST, _FASHION_MNIST, _CIFAR10, _CIFAR100)
}
