"""The images that benchmarks of the input are given."""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from speedpaper_jax.data import decode
from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError, warn
from speedpaper_jax.files import regular_files

if TYPE_CHECKING:
  from speedpaper_jax.data.records import ArrayRecordSource


def encoded_images(source: pathlib.Path) -> Iterator[bytes]:
  """Encoded images that can be decoded; of others it is told that they are left out.

  Args:
    source: a folder of images, or that of a data set that TFDS has prepared, of all its splits.

  Raises:
    UserError: there is no such folder, it has no images, or what TFDS says of it is damaged.
  """
  for name, read in _all(source):
    try:
      content = read()
      decode.to_rgb(decode.open_image(content))
    except OSError as error:
      warn(f"{name} cannot be read and is left out: {error.strerror}.")
    except decode.DecodeError as error:
      warn(f"{name} cannot be decoded and is left out: {error}.")
    else:
      yield content


def _all(source: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
  """What each is called, and what reads it."""
  if not source.is_dir():
    raise UserError(f"There is no folder '{source}'; name one of images.")
  if not (source / "dataset_info.json").exists():
    for path in find_images([source]):
      yield f"'{path}'", functools.partial(regular_files.read, path)
    return
  import tensorflow_datasets as tfds

  from speedpaper_jax.data.records import ArrayRecordSource

  try:
    builder = tfds.builder_from_directory(source)
  except Exception as error:  # there is no end of what may be wrong with its files
    raise UserError(f"The data set in '{source}' is damaged: {error}.") from error
  for split in builder.info.splits:
    records = ArrayRecordSource(builder, split)
    for index in range(len(records)):
      yield records.name(index), functools.partial(_image_of, records, index)


def _image_of(records: "ArrayRecordSource", index: int) -> bytes:
  image: bytes = records[index]["image"]
  return image
