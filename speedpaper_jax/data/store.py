"""Writes examples in the form that plain TFDS reads, without TensorFlow."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from speedpaper_jax.data import paths
from speedpaper_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataSet:
  """What TFDS records of a data set beside its examples.

  Attributes:
    name: as in `tfds.load(name)`.
    version: of the data and their order, "major.minor.patch".
    image_shape: (height, width, channels).
    num_classes: of the feature "label".
    description: a sentence or two.
    homepage: URL of the originals.
    citation: BibTeX.
    more_features: beside "image" and "label".
  """

  name: str
  version: str
  image_shape: tuple[int, int, int]
  num_classes: int
  description: str
  homepage: str
  citation: str
  more_features: Mapping[str, tfds.features.FeatureConnector] = dataclasses.field(
    default_factory=dict
  )

  def directory(self, root: Path) -> Path:
    """Returns where TFDS looks for it below the data directory `root`."""
    return root / self.name / self.version

  def is_prepared(self, root: Path) -> bool:
    """Tells whether it is there; TFDS renames only whole data sets into their place."""
    return paths.is_file(self.directory(root) / "dataset_info.json")


def store(
  data_set: DataSet,
  root: Path,
  splits: Mapping[str, Iterable[Mapping[str, Any]]],
  class_names: Mapping[str, list[str]],
) -> None:
  """Writes a data set as array_record below `root`; several processes may do so at once.

  Args:
    data_set: what it is.
    root: TFDS's data directory.
    splits: the examples of each split in their original order; "image" is uint8 `[H, W, C]`, the
      other features are as TFDS takes them. TFDS shuffles them by a hash of their position.
    class_names: names of the classes of each label feature that has names.

  Raises:
    UserError: the directory cannot be written, or holds part of a data set.
  """
  directory = data_set.directory(root)
  if not data_set.is_prepared(root) and os.path.lexists(directory):
    raise UserError(f"{directory} is not a whole data set; remove it and prepare it again.")
  tfds.disable_progress_bar()
  try:
    builder = _Builder(data_set, root, splits, class_names)
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints about a download of unknown size
      # TFDS writes under another name, removes that on errors, and renames at the end.
      builder.download_and_prepare(
        file_format="array_record",
        # It wants to know where to download and extract to, but nothing is.
        download_dir=root,
        download_config=tfds.download.DownloadConfig(extract_dir=root, try_download_gcs=False),
      )
  except (OSError, RuntimeError) as error:  # the latter are ArrayRecord's
    if not data_set.is_prepared(root):  # else another process was faster, and wrote the same
      raise UserError(
        f"{directory} cannot be written ({reason(error)}); nothing is left there. Name another "
        "directory with --config.data.dir, or --data_dir of data.prepare."
      ) from error


def reason(error: OSError | RuntimeError) -> str:
  """In a few words; TFDS and ArrayRecord say in many, and each in its own, that a disk is full."""
  if paths.is_full(error):
    return "no space is left on the disk"
  return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """`tfds.dataset_builders.store_as_tfds_dataset` does this, but asks TensorFlow for its types."""

  def __init__(
    self,
    data_set: DataSet,
    root: Path,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    class_names: Mapping[str, list[str]],
  ) -> None:
    self.name = data_set.name
    self.VERSION = tfds.core.Version(data_set.version)
    self._data_set = data_set
    self._splits = splits
    self._class_names = class_names
    super().__init__(data_dir=root, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      "image": tfds.features.Image(shape=self._data_set.image_shape),
      "label": tfds.features.ClassLabel(num_classes=self._data_set.num_classes),
      **self._data_set.more_features,
    }
    for feature, names in self._class_names.items():
      features[feature] = tfds.features.ClassLabel(names=names)
    return _Info(
      builder=self,
      description=self._data_set.description,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=("image", "label"),
      homepage=self._data_set.homepage,
      citation=self._data_set.citation,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # the originals are there already
    return {split: self._generate_examples(examples) for split, examples in self._splits.items()}

  def _generate_examples(
    self, examples: Iterable[Mapping[str, Any]]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, example in enumerate(examples):
      yield index, {**example, "image": _png(example["image"])}


class _Info(tfds.core.DatasetInfo):
  """Describes what was written here, and asks no server about a data set of the same name."""

  def initialize_from_bucket(self) -> None:
    pass


def _png(image: np.ndarray) -> io.BytesIO:
  """Encodes an image here, because TFDS would encode an array through TensorFlow."""
  encoded = io.BytesIO()
  Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(encoded, "PNG")
  encoded.seek(0)
  return encoded
