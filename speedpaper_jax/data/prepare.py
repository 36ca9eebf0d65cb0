"""Prepares a data set without TensorFlow, in the form that plain TFDS reads.

`python -m speedpaper_jax.data.prepare NAME [--data_dir=DIR] [--from=DIR] [--incomplete]`
"""

import argparse
import hashlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.data import paths
from speedpaper_jax.errors import UserError, did_you_mean

if TYPE_CHECKING:
  from speedpaper_jax.data.originals import Original


def prepare(
  name: str, data_dir: str = "", source: str | None = None, *, incomplete: bool = False
) -> Path:
  """Prepares one of `sources.OWN_DATA_SETS`, where it is not there already.

  Args:
    name: of the data set.
    data_dir: where TFDS data sets are; "" is TFDS's default.
    source: a directory with the original files; without it they are downloaded, where they can be.
    incomplete: whether ImageNet and its sister sets may lack classes and images.

  Returns:
    The directory of the prepared data set.

  Raises:
    UserError: the name is unknown, a file cannot be downloaded, is missing or damaged, images are
      lacking, or the directory cannot be written.
  """
  from speedpaper_jax.data import digits, imagenet
  from speedpaper_jax.data.originals import ORIGINALS
  from speedpaper_jax.data.sources import OWN_DATA_SETS, data_root

  if name not in OWN_DATA_SETS:
    imagenet.refuse_corrupted(name)
    raise UserError(
      f"'{name}' cannot be prepared without TensorFlow.{did_you_mean(name, OWN_DATA_SETS)}"
    )
  root = data_root(data_dir)
  if name == "digits":
    digits.prepare(root)
    return digits.DIGITS.directory(root)
  if name in imagenet.NAMES:
    return imagenet.prepare(name, root, source, incomplete=incomplete)
  original = ORIGINALS[name]
  if not original.data_set.is_prepared(root):
    if source is None:
      with _temporary_directory() as downloads:
        _download(original, Path(downloads))
        _store(original, Path(downloads), root)
    else:
      _check_source(original, Path(source))
      _store(original, Path(source), root)
  return original.data_set.directory(root)


def _store(original: "Original", directory: Path, root: Path) -> None:
  from speedpaper_jax.data.store import store

  contents = original.read(directory)
  store(original.data_set, root, contents.splits, contents.class_names)


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
  try:
    return tempfile.TemporaryDirectory()
  except OSError as error:
    raise UserError(
      f"There is no directory for the downloads ({error.strerror}); name one with TMPDIR."
    ) from error


def _download(original: "Original", directory: Path) -> None:
  from speedpaper_jax.data import download

  # TFDS's download manager opens what it has fetched through TensorFlow.
  for name, sha256 in original.sha256.items():
    url, path = original.address + name, directory / name
    print(f"Downloading {url}", file=sys.stderr)
    try:
      download.fetch(url, path)
    except download.DownloadError as error:
      raise UserError(
        f"{error}; get it another way and give its directory with --from=DIR."
      ) from error
    except OSError as error:
      if paths.is_full(error):
        raise UserError(
          f"{name} does not fit into {directory.parent}; name another directory for the downloads "
          "with TMPDIR."
        ) from error
      raise
    if _sha256(path) != sha256:
      raise UserError(
        f"{url} is not the published file (its SHA-256 is {_sha256(path)}, not {sha256}); "
        "get it another way and give its directory with --from=DIR."
      )


def _check_source(original: "Original", directory: Path) -> None:
  for name, sha256 in original.sha256.items():
    path = directory / name
    if not paths.is_file(path):
      raise UserError(f"There is no file {path}; get it from {original.address}{name}.")
    # A copy that was packed anew is as good, and `read` checks its structure.
    if _sha256(path) != sha256:
      print(f"Note: {path} is not byte for byte the published file.", file=sys.stderr)


def _sha256(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  from speedpaper_jax.data.sources import OWN_DATA_SETS

  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.data.prepare",
    description="Prepares a data set without TensorFlow, in the form that plain TFDS reads.",
  )
  parser.add_argument("name", metavar="NAME", help=", ".join(OWN_DATA_SETS))
  parser.add_argument(
    "--data_dir",
    default="",
    metavar="DIR",
    help="where to write (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
  )
  parser.add_argument(
    "--from",
    dest="source",
    metavar="DIR",
    help="directory with the original files (default: download them; ImageNet's need an account)",
  )
  parser.add_argument(
    "--incomplete",
    action="store_true",
    help="prepare ImageNet also where classes or images are lacking",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prepares what the flags name."""
  # As Python has it, so that Ctrl-C removes downloads and half-written files.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    directory = prepare(
      options.name, options.data_dir, options.source, incomplete=options.incomplete
    )
  except KeyboardInterrupt:
    kept = "the same command goes on" if "imagenet" in options.name else "nothing was written"
    print(f"Interrupted; {kept}.", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)
  print(f"{options.name} is prepared in {directory}")


if __name__ == "__main__":
  entry_point.run(main, parse)
