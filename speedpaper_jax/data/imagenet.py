"""Prepares ImageNet and its sister sets from their original files, as TFDS's builders do."""

import contextlib
import pathlib

import tensorflow_datasets as tfds

from speedpaper_jax.data import array_record_writing, imagenet_originals, paths
from speedpaper_jax.data.imagenet_originals import NAMES as NAMES
from speedpaper_jax.data.original_files import Contents, OriginalFiles, listed
from speedpaper_jax.errors import UserError, inform


def prepare(
  name: str, root: pathlib.Path, source: str | None, *, incomplete: bool = False
) -> pathlib.Path:
  """Prepares one of `NAMES`, where it is not there already; a call that was stopped goes on.

  Args:
    name: of the data set, with its configuration.
    root: TFDS's data directory.
    source: a directory with the original files.
    incomplete: whether it may lack classes and images.

  Returns:
    The directory of the prepared data set.

  Raises:
    UserError: files are missing, damaged or not complete, there is no room, or the directory cannot
      be written.
  """
  # TFDS's own builder has the description and the features; only its examples need TensorFlow.
  builder = tfds.builder(name, data_dir=root, file_format="array_record")
  directory = pathlib.Path(builder.data_dir)
  if array_record_writing.is_prepared(builder):
    return directory
  if source is None:
    raise UserError(
      f"'{name}' is prepared from its original files; give the directory that has them with "
      f"--from=DIR: {imagenet_originals.wanted(name)}."
    )
  growing = array_record_writing.unfinished(builder)
  with array_record_writing.alone(builder), contextlib.ExitStack() as stack:
    if array_record_writing.is_prepared(builder):  # by another process, meanwhile
      return directory
    files = OriginalFiles(paths.expand(source), growing.with_name(f"{growing.name}.tar"), stack)
    contents = imagenet_originals.read(name, files)
    _tell(contents, files, incomplete)
    written = array_record_writing.write(builder, contents.splits)
  if written.kept:
    inform(f"Note: {written.kept:,} of {written.files:,} files were whole from an earlier call.")
  if written.not_images:
    inform(
      f"Note: {len(written.not_images):,} files do not begin as images do "
      f"({listed(written.not_images)}); they are kept, as TFDS keeps them, and training leaves out "
      "what cannot be decoded."
    )
  return directory


def refuse_corrupted(name: str) -> None:
  """Says how `imagenet2012_corrupted` is made, which is not simply read from files.

  Raises:
    UserError: it is this one.
  """
  if name.partition("/")[0] == "imagenet2012_corrupted":
    raise UserError(
      f"'{name}' is computed from the validation images, by filters and random noise on what "
      "TensorFlow has decoded and resized; run `tfds build imagenet2012_corrupted/gaussian_noise_1 "
      "--file_format=array_record`, say, which needs tensorflow, opencv-python, scikit-image and "
      "scipy."
    )


def _tell(contents: Contents, files: OriginalFiles, incomplete: bool) -> None:
  for sentence in contents.found:
    inform(f"Found {sentence}.")
  if files.left_out:
    inform(f"Note: left out of '{files.directory}': {files.left_out}.")
  if contents.lacking and not incomplete:
    raise UserError(
      f"The data set is not complete: {'; '.join(contents.lacking)}. Get the missing files, or "
      "prepare what is there with --incomplete."
    )
  if contents.lacking:
    inform(f"Note: the data set is not complete: {'; '.join(contents.lacking)}.")
