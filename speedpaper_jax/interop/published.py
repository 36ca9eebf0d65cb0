"""Published weights by their names: fetched and converted once, into the user's cache.

That is done in a process of its own, so that training and evaluation have no PyTorch in theirs, and
no accelerator is taken for it.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import pathlib
import shutil
import signal
from collections.abc import Callable, Iterator

from speedpaper_jax.data.imagenet_classes import class_names
from speedpaper_jax.errors import UserError, inform
from speedpaper_jax.files import lock, user_cache
from speedpaper_jax.inference.model_directory import ModelDescription
from speedpaper_jax.interop import conversion, directories, files, references
from speedpaper_jax.published_weights import source_files, table
from speedpaper_jax.published_weights.table import PublishedWeights
from speedpaper_jax.storage.run_directory import RunDirectory

_MADE = "model.json"
# How files of other packages than PyTorch's end → what reads them.
_READERS = {".safetensors": "safetensors", ".h5": "h5py"}


def model_directory(name: str | pathlib.Path) -> pathlib.Path:
  """The model directory of a path or of a row of the table.

  Args:
    name: a path, or what the table calls the weights, such as "timm/inception_v4".

  Returns:
    The path itself, which may not exist; or a directory in the user's cache.

  Raises:
    UserError: there are no such weights, or they cannot be fetched.
  """
  row = table.find_unless_path(name)
  return pathlib.Path(name) if row is None else of_row(row)


def description(name: str | pathlib.Path) -> ModelDescription:
  """What is known of the weights of `model_directory` before they are fetched.

  Raises:
    UserError: there are no such weights, or the directory has no description of them.
  """
  if (row := table.find_unless_path(name)) is None:
    return ModelDescription.from_json(RunDirectory(pathlib.Path(name)).read("model.json"))
  return ModelDescription(
    row.model, row.dialect, row.num_classes, (), row.preprocessing, source=row.name
  )


def of_row(row: PublishedWeights) -> pathlib.Path:
  """The model directory of a row, made where it is not there yet.

  Raises:
    UserError: the file cannot be fetched or read, or the cache cannot be written.
  """
  directory = _root() / row.name
  if not (directory / _MADE).is_file():
    _in_own_process(_make_of_row, row, directory)
  return directory


def of_file(path: pathlib.Path, model: str, dialect: str | None) -> pathlib.Path:
  """The model directory of a file of weights, converted where it is not there yet.

  Args:
    path: of the file.
    model: name of the network.
    dialect: whose implementation; may be None where its tensors say it.

  Raises:
    UserError: the file cannot be read, or the cache cannot be written.
  """
  try:
    digest = directories.sha256(path)
  except OSError as error:
    raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error
  directory = _root() / "local" / f"{digest[:16]}-{model}-{dialect or 'found'}"
  if not (directory / _MADE).is_file():
    _in_own_process(_make_of_file, path, digest, model, dialect, directory)
  return directory


def file_by_hand(row: PublishedWeights) -> pathlib.Path:
  """Where the file of a row may be put by those who have no network."""
  return _root() / "files" / row.file_name


def _root() -> pathlib.Path:
  try:
    return user_cache.path("weights")
  except RuntimeError as error:
    reason = f"There is no place for weights ({error}); name one with XDG_CACHE_HOME."
    raise UserError(reason) from error


def _in_own_process(make: Callable[..., None], *arguments: object) -> None:
  context = multiprocessing.get_context("spawn")
  try:
    with concurrent.futures.ProcessPoolExecutor(1, context, _set_up) as executor:
      executor.submit(make, *arguments).result()
  except concurrent.futures.process.BrokenProcessPool as error:
    raise UserError(
      "The process that converts the weights was ended from outside, perhaps for want of memory; "
      "give the same command again."
    ) from error
  except OSError as error:
    raise UserError(
      f"The weights cannot be kept in '{_root()}' ({error.strerror}); name another place with "
      "XDG_CACHE_HOME."
    ) from error


def _set_up() -> None:
  import jax
  from absl import logging

  signal.signal(signal.SIGINT, signal.SIG_DFL)
  logging.set_verbosity(logging.FATAL)
  jax.config.update("jax_platforms", "cpu")


def _make_of_row(row: PublishedWeights, directory: pathlib.Path) -> None:
  references.import_package(_READERS.get(pathlib.PurePath(row.file_name).suffix, "torch"))
  with _staging(directory) as staging:
    if (directory / _MADE).is_file():  # made while this process waited
      return
    path = source_files.obtain(row, file_by_hand(row), staging)
    size = row.preprocessing.crop.image_size
    weights = conversion.read_weights(
      row.model, row.dialect, files.read(path), None, size, row.name
    )
    for note in weights.notes:
      inform(f"Note: {note}")
    have_names = row.classes.startswith(table.IMAGENET_CLASSES)
    directories.write(
      staging / "model",
      row.model,
      weights,
      row.preprocessing,
      class_names() if have_names else [],
      f"{row.name}, {row.licence}, from {row.url}, SHA-256 {directories.sha256(path)}",
    )
    _put_in_place(staging / "model", directory)


def _make_of_file(
  path: pathlib.Path, digest: str, model: str, dialect: str | None, directory: pathlib.Path
) -> None:
  with _staging(directory) as staging:
    if (directory / _MADE).is_file():
      return
    weights = conversion.read_weights(model, dialect, files.read(path), None, None, str(path))
    for note in weights.notes:
      inform(f"Note: {note}")
    names = class_names()
    directories.write(
      staging / "model",
      model,
      weights,
      weights.names.preprocessing,
      names if weights.num_classes == len(names) else [],
      f"{path.name}, SHA-256 {digest}",
    )
    _put_in_place(staging / "model", directory)


def _put_in_place(made: pathlib.Path, directory: pathlib.Path) -> None:
  directory.parent.mkdir(parents=True, exist_ok=True)
  shutil.rmtree(directory, ignore_errors=True)  # what is no model directory
  made.replace(directory)


@contextlib.contextmanager
def _staging(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """A place to make a directory in, for one process at a time; nothing of it is left."""
  staging = _root() / "staging" / "-".join(directory.relative_to(_root()).parts)
  with contextlib.ExitStack() as stack:
    stack.callback(_remove, staging)
    _lock(staging, stack)
    _clear(staging)  # of a process that was killed
    stack.callback(_clear, staging)
    yield staging


def _lock(staging: pathlib.Path, stack: contextlib.ExitStack) -> None:
  while True:
    staging.mkdir(parents=True, exist_ok=True)
    try:
      stack.enter_context(lock.held(staging, wait=True))
      return
    except FileNotFoundError:  # removed by the one that was waited for
      continue


def _remove(staging: pathlib.Path) -> None:
  with contextlib.suppress(OSError):  # another process waits for it
    staging.rmdir()
    staging.parent.rmdir()


def _clear(staging: pathlib.Path) -> None:
  for path in staging.iterdir():
    if path.is_dir():
      shutil.rmtree(path, ignore_errors=True)
    elif path.name != lock.NAME:
      path.unlink()
