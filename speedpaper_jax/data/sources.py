"""One split of a data set as random-access records, read without TensorFlow."""

import dataclasses
import itertools
import os
import re
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from speedpaper_jax.data import digits, feature_classes, folder, imagenet_originals, paths
from speedpaper_jax.data.decode import DecodeError
from speedpaper_jax.data.image_files import SUFFIXES
from speedpaper_jax.data.imagenet_labels import COUNTS, class_identifiers
from speedpaper_jax.data.originals import ORIGINALS
from speedpaper_jax.data.records import ArrayRecordSource, PreparedRecords, Source
from speedpaper_jax.errors import UserError, did_you_mean, inform_once

# Data sets that this package prepares itself, without TensorFlow.
OWN_DATA_SETS = (digits.DIGITS.name, *ORIGINALS, *imagenet_originals.NAMES)

_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of an image-classification data set.

  Attributes:
    records: the examples, in a fixed order.
    num_classes: labels are 0 … num_classes − 1.
    class_names: one name a class.
    undecodable: the records that were found damaged so far and reported once each: the reasons, by
      their numbers.
  """

  records: Source
  num_classes: int
  class_names: tuple[str, ...]
  undecodable: dict[int, str] = dataclasses.field(default_factory=dict, compare=False, repr=False)

  def __len__(self) -> int:
    return len(self.records)

  def class_counts(self) -> list[int] | None:
    """Images of each class; None where each record would have to be read for it."""
    labels = self.records.labels()
    return None if labels is None else np.bincount(labels, minlength=self.num_classes).tolist()


def open_split(name: str, split: str, data_dir: str = "", split_seed: int = 0) -> Split:
  """Opens a prepared data set; the embedded digits are prepared on first use.

  Args:
    name: "digits", "folder", or a TFDS data set `name[/config][:version]` with the features
      "image" and "label", prepared as array_record. Without a version the newest one that is there.
    split: a TFDS split expression, such as "train", "train[:90%]" or "validation".
    data_dir: where TFDS data sets are; "" is TFDS's default, `$TFDS_DATA_DIR` or
      `~/tensorflow_datasets`. For "folder" it is the folder of the classes' folders itself.
    split_seed: which images of "folder" are held out; other data sets have splits of their own.

  Raises:
    UserError: there is no such data set or split, or it is not prepared in a readable form; or it
      is not split by a seed.
  """
  if name == folder.NAME:
    return _open_folder(split, data_dir, split_seed)
  if split_seed:
    raise UserError(
      f"config.data.split_seed is {split_seed} and belongs to the data set 'folder'; the splits of "
      f"'{name}' are its own, so leave it at 0."
    )
  root = data_root(data_dir)
  match = _NAME.fullmatch(name)
  if not match:
    raise UserError(f"'{name}' is not the name of a data set; give name[/config][:version].")
  if match["name"] == "digits":
    digits.prepare(root)
  directory = _prepared_directory(root, name, match)
  try:
    feature_classes.check(directory)
    builder = tfds.builder_from_directory(directory)
  except UserError:
    raise
  except Exception as error:  # TFDS raises many kinds for damaged descriptions.
    raise UserError(
      f"The description of the data set '{name}' in {directory} is damaged; remove the directory "
      "and prepare the data set again."
    ) from error
  _check_readable(builder, name)
  if match["name"] == imagenet_originals.IMAGENET:
    _check_imagenet(builder)
  return Split(
    records=_records(builder, name, split),
    num_classes=builder.info.features["label"].num_classes,
    class_names=tuple(builder.info.features["label"].names),
  )


def _check_imagenet(builder: tfds.core.DatasetBuilder) -> None:
  """Somebody's ImageNet may be a part of it, but must have its classes in their order."""
  names, identifiers = builder.info.features["label"].names, list(class_identifiers())
  if names != identifiers:
    pairs = itertools.zip_longest(names, identifiers)
    label, (name, expected) = next((n, pair) for n, pair in enumerate(pairs) if len({*pair}) > 1)
    raise UserError(
      f"The classes of imagenet2012 in {builder.data_dir} are others than TFDS's: label {label} is "
      f"'{name}', not '{expected}'; prepare it again, in another --data_dir, with `python -m "
      "speedpaper_jax.data.prepare imagenet2012 --from=DIR`."
    )
  counts = {name: info.num_examples for name, info in builder.info.splits.items() if name in COUNTS}
  if others := [name for name, count in counts.items() if count != COUNTS[name]]:
    listed = ", ".join(f"{counts[name]:,} images of {COUNTS[name]:,} in {name}" for name in others)
    inform_once(f"Note: imagenet2012 in {builder.data_dir} is not the whole: {listed}.")


def _open_folder(split: str, data_dir: str, split_seed: int) -> Split:
  if not data_dir:
    raise UserError(
      "The data set 'folder' is a folder of yours; name it with --config.data.dir=FOLDER. It has a "
      "folder of images for each class; evaluate takes it as --data_dir=FOLDER."
    )
  source, classes = folder.open_folder(paths.expand(data_dir), split, split_seed)
  return Split(PreparedRecords(source), num_classes=len(classes), class_names=classes)


def data_root(data_dir: str) -> Path:
  """Returns the directory of TFDS data sets that `data_dir` means; "" is TFDS's default."""
  return paths.expand(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def _prepared_directory(root: Path, name: str, match: re.Match[str]) -> Path:
  """Finds `root/name[/config]/version` without the builder's code, which may need TensorFlow."""
  directory = root / match["name"]
  if match["config"]:
    directory /= match["config"]
  versions = _prepared_versions(directory)
  if versions and match["version"] not in (None, *versions):
    raise UserError(
      f"{directory} has no version {match['version']}; name one of {', '.join(versions)}, or none."
    )
  if versions:
    return directory / (match["version"] or versions[-1])
  if not match["config"] and (configs := _prepared_configs(directory)):
    listed = ", ".join(f"'{match['name']}/{config}'" for config in configs)
    raise UserError(f"'{name}' has configurations; name one of those prepared: {listed}.")
  raise UserError(_not_prepared(root, name, match["name"]))


def _prepared_versions(directory: Path) -> list[str]:
  """Versions in `directory` from the oldest to the newest."""
  return sorted((path.name for path in _prepared(directory, "*")), key=tfds.core.Version)


def _prepared_configs(directory: Path) -> list[str]:
  return sorted({path.parent.name for path in _prepared(directory, "*/*")})


def _prepared(root: Path, pattern: str) -> list[Path]:
  """Directories of whole data sets; TFDS writes under another name than the version's."""
  if not paths.is_directory(root):
    return []
  found = (path.parent for path in root.glob(f"{pattern}/dataset_info.json"))
  return [path for path in found if tfds.core.Version.is_valid(path.name)]


def _not_prepared(root: Path, name: str, base_name: str) -> str:
  of_imagenet = base_name in {each.partition("/")[0] for each in imagenet_originals.NAMES}
  own = name.partition(":")[0] if of_imagenet else base_name
  source = " --from=DIR" if of_imagenet else ""
  command = f"run `python -m speedpaper_jax.data.prepare {own}{source} --data_dir={root}`"
  if base_name in OWN_DATA_SETS and not of_imagenet:
    return f"The data set '{name}' is not prepared in {root}; {command}."
  if any(path.suffix.lower() in SUFFIXES for path in root.glob("*/*")):
    prepare = f" To prepare '{own}' from its original files, {command}." if of_imagenet else ""
    return (
      f"The data set '{name}' is not prepared in {root}, but there are folders of images, which "
      f"the data set 'folder' reads: train with --config=FILE:data=folder, evaluate with "
      f"--data=folder.{prepare}"
    )
  if of_imagenet:
    return f"The data set '{name}' is not prepared in {root}; {command}."
  if base_name in tfds.list_builders(with_community_datasets=False):
    return f"The data set '{name}' is not prepared in {root}; {_tfds_command(root, name)}."
  here = [path.parent.name for path in _prepared(root, "*/*")]
  valid = sorted({*OWN_DATA_SETS, folder.NAME, *here})
  return f"There is no data set '{name}' in {root}, nor in TFDS.{did_you_mean(base_name, valid)}"


def _tfds_command(root: Path, name: str) -> str:
  command = f"tfds build {name} --file_format=array_record --data_dir={root}"
  return f"run `{command}`, which needs `pip install tensorflow`"


def _check_readable(builder: tfds.core.DatasetBuilder, name: str) -> None:
  file_format = builder.info.file_format
  if file_format != tfds.core.FileFormat.ARRAY_RECORD:
    directory = Path(builder.data_dir)
    raise UserError(
      f"The data set '{name}' in {directory} is prepared as {file_format.value}, not as "
      f"array_record; for another --data_dir, {_tfds_command(Path('DIR'), name)}."
    )
  features = dict(builder.info.features.items())
  if "real_label" in features:
    raise UserError(
      f"The data set '{name}' has several right classes for an image; evaluate on 'imagenet2012', "
      "whose images it has, with --labels=real.json."
    )
  if not (
    isinstance(features.get("image"), tfds.features.Image)
    and isinstance(features.get("label"), tfds.features.ClassLabel)
  ):
    raise UserError(
      f"The data set '{name}' is not one of images and classes; its features are "
      f"{', '.join(features)}, not 'image' and 'label'."
    )


def _records(builder: tfds.core.DatasetBuilder, name: str, split: str) -> PreparedRecords:
  try:
    info = builder.info.splits[split]
  except (KeyError, ValueError) as error:
    valid = did_you_mean(split, builder.info.splits)
    raise UserError(
      f"'{split}' is not a split of '{name}', nor a part of one such as 'train[:90%]'.{valid}"
    ) from error
  if not info.num_examples:
    raise UserError(f"The split '{split}' of '{name}' has no examples; choose another split.")
  again = f"remove {builder.data_dir} and prepare the data set again."
  missing = [str(path) for path in info.filepaths if not os.path.exists(path)]
  if missing:
    raise UserError(f"The data set '{name}' lacks the file {missing[0]}; {again}")
  records = PreparedRecords(ArrayRecordSource(builder, split))
  if not any(_is_readable(records, index) for index in (0, len(records) - 1)):
    raise UserError(f"The data set '{name}' is damaged in {info.filepaths[0]}; {again}")
  return records


def _is_readable(records: PreparedRecords, index: int) -> bool:
  try:
    records[index]
  except DecodeError:
    return False
  return True
