"""State dicts in files: PyTorch's own format, read without running code in it, and safetensors.

Keras's files are read as if PyTorch had written them, see `keras_files`.
"""

import argparse
import io
import pathlib
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from speedpaper_jax.data import paths
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files
from speedpaper_jax.interop import arrays, keras_files, wrappings
from speedpaper_jax.interop.references import import_package
from speedpaper_jax.interop.tensors import StateDict

_TORCH = (".pth", ".pt", ".bin")
_SAFETENSORS = ".safetensors"
# How PyTorch's files begin: as zip archives, before 1.6 as pickles.
_TORCH_BEGINNINGS = (b"PK\x03\x04", b"\x80")
_OTHERS = {
  b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with `git lfs pull`",
  b"<": "a web page; download the file itself",
}
_PATHS = {
  "PosixPath": pathlib.PurePosixPath,
  "PurePosixPath": pathlib.PurePosixPath,
  "WindowsPath": pathlib.PureWindowsPath,
  "PureWindowsPath": pathlib.PureWindowsPath,
}
# What trainers save beside the tensors, and nothing runs by: command lines, paths, numbers of
# NumPy's such as the best accuracy, and Lightning's hyper-parameters.
_INERT: list[Any] = [
  argparse.Namespace,
  *((path, f"pathlib{part}.{name}") for name, path in _PATHS.items() for part in ("", "._local")),
  np.dtype,
  *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
  *(
    (np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")
  ),
  *(
    (OrderedDict, f"{module}.AttributeDict")
    for module in (
      "lightning_fabric.utilities.data",
      "lightning.fabric.utilities.data",
      "pytorch_lightning.utilities.parsing",
    )
  ),
]


def read(path: pathlib.Path, key: str | None = None) -> StateDict:
  """Reads a file of tensors.

  Args:
    path: of `torch.save`, in the format safetensors, or Keras's, whatever its ending. A state dict
      that lies inside a checkpoint is found, see `wrappings.unwrap`.
    key: of the checkpoint's weights to take; None for those as they were trained.

  Returns:
    Name → array.

  Raises:
    UserError: the file is missing, damaged, in another format, or holds no tensors.
  """
  content = _content(path)
  if isinstance(content, Mapping):
    content = wrappings.unwrap(content, key, str(path))
  if not isinstance(content, Mapping) or not content:
    raise UserError(f"{path} holds no state dict; save one with torch.save(model.state_dict()).")
  return {name: _array(values, name, path) for name, values in content.items()}


def check(path: pathlib.Path) -> None:
  """Raises a UserError if `write` can surely not make the file, before long work is done for it."""
  if path.suffix not in (*_TORCH, _SAFETENSORS):
    raise UserError(
      f"'{path}' does not show its format; let it end in .pth (PyTorch) or .safetensors."
    )
  if paths.is_file(path):
    raise UserError(f"There is something at '{path}' already; name another file.")
  output_files.check(path)


def write(path: pathlib.Path, state_dict: StateDict) -> None:
  """Writes a file of tensors, whole or not at all; its ending chooses the format.

  Raises:
    UserError: another ending, something is there already, or the file cannot be written.
  """
  check(path)
  if path.suffix == _SAFETENSORS:
    output_files.write_bytes(path, import_package("safetensors.numpy").save(state_dict))
    return
  torch = import_package("torch")
  content = io.BytesIO()
  # Copies, since PyTorch shares no memory that may not be written.
  copies = {name: torch.from_numpy(values.copy()) for name, values in state_dict.items()}
  torch.save(copies, content)
  output_files.write_bytes(path, content.getvalue())


def _content(path: pathlib.Path) -> Any:
  """What the file holds: of tensors alone, or among other things."""
  if not paths.is_file(path):
    raise UserError(f"There is no file {path}.")
  try:
    with path.open("rb") as file:
      beginning = file.read(32)
    if _is_safetensors(beginning):
      return _read_safetensors(path)
    if keras_files.is_one(path, beginning):
      return keras_files.read(path)
    if beginning.startswith(_TORCH_BEGINNINGS):
      return _read_torch(path)
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}.") from error
  for start, kind in _OTHERS.items():
    if beginning.startswith(start):
      raise UserError(f"{path} is {kind}.")
  kind = "empty" if not beginning else "neither a file of PyTorch's nor safetensors nor Keras's"
  raise UserError(f"{path} is damaged or holds more than tensors: it is {kind}.")


def _is_safetensors(beginning: bytes) -> bool:
  """Whether a file begins as the format does: with the length of a JSON object, and with that."""
  return beginning[8:9] == b"{" and beginning[6:8] == b"\0\0"


def _read_safetensors(path: pathlib.Path) -> StateDict:
  safetensors = import_package("safetensors")
  try:
    tensors = safetensors.deserialize(path.read_bytes())
  except safetensors.SafetensorError as error:
    raise _damaged(path, error) from error
  return {
    name: arrays.of_bytes(tensor["dtype"], tensor["shape"], tensor["data"], name, str(path))
    for name, tensor in tensors
  }


def _read_torch(path: pathlib.Path) -> Any:
  torch = import_package("torch")
  try:
    # Of a name PyTorch would take the ending for the format.
    with (
      path.open("rb") as file,
      torch.serialization.safe_globals(_INERT),
      warnings.catch_warnings(action="ignore"),
    ):
      return torch.load(file, map_location="cpu", weights_only=True)
  except Exception as error:  # it raises many kinds for damaged files
    refused = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    if refused:
      raise UserError(
        f"{path} is damaged or holds more than tensors: an object of {refused[1]}, whose code is "
        f"not run here; save the state dict alone where it was trained, with "
        f"torch.save(model.state_dict(), 'weights.pth')."
      ) from error
    raise _damaged(path, error) from error


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  reason = (str(error).strip() or repr(error)).splitlines()[0]
  first = reason.partition(". ")[0][:200]  # of PyTorch's many sentences
  return UserError(f"{path} is damaged or holds more than tensors: {first}")


def _array(values: Any, name: Any, path: pathlib.Path) -> np.ndarray:
  if isinstance(values, np.ndarray):
    return values
  if not isinstance(name, str) or not hasattr(values, "detach"):
    raise UserError(f"'{name}' in {path} is no tensor; save the state dict alone.")
  return arrays.of_tensor(values, name, str(path))
