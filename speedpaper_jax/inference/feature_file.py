"""Features in an .npz file, written row by row: maps of many images do not fit the memory."""

import contextlib
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterable
from typing import IO

import numpy as np
from numpy.lib import format as npy

from speedpaper_jax.errors import UserError


def write(
  path: pathlib.Path,
  batches: Iterable[tuple[list[pathlib.Path], np.ndarray]],
  more: dict[str, str],
) -> tuple[int, ...]:
  """Writes a file, whole or not at all.

  Args:
    path: of the file.
    batches: files and their features, float32 [N, …].
    more: other arrays of text.

  Returns:
    The shape of all features.

  Raises:
    UserError: there are none, or the file cannot be written.
  """
  # Their number, which stands in front of them, is known at their end.
  rows, whole = (path.resolve().with_name(f".{os.getpid()}.{part}") for part in ("rows", "npz"))
  try:
    with rows.open("wb") as file:
      names, shape = _write_rows(file, batches)
    if not names:
      raise UserError("None of the images gives features.")
    with zipfile.ZipFile(whole, "w", allowZip64=True) as archive:
      with rows.open("rb") as file, _member(archive, "features") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_2_0(member, header)
        shutil.copyfileobj(file, member)
      for name, value in {"files": names, **more}.items():
        with _member(archive, name) as member:
          npy.write_array(member, np.array(value), allow_pickle=False)
    whole.replace(path.resolve())
  except OSError as error:
    raise UserError(f"{path} cannot be written: {error.strerror}.") from error
  finally:
    for part in (rows, whole):
      part.unlink(missing_ok=True)
  return shape


def _write_rows(
  file: IO[bytes], batches: Iterable[tuple[list[pathlib.Path], np.ndarray]]
) -> tuple[list[str], tuple[int, ...]]:
  names: list[str] = []
  shape: tuple[int, ...] = ()
  for paths, values in batches:
    file.write(np.ascontiguousarray(values, "<f4").tobytes())
    names += map(str, paths)
    shape = values.shape[1:]
  return names, (len(names), *shape)


def _member(archive: zipfile.ZipFile, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
  return archive.open(f"{name}.npy", "w", force_zip64=True)
