"""Weights as Keras saves them (.h5, .weights.h5, .keras), read with h5py: no code in them is run.

A layer without a name of its own has a number that depends on what the process had built before;
here such layers are counted from 1, in the order in which they were built.
"""

import io
import pathlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.references import import_package
from speedpaper_jax.interop.tensors import StateDict

_HDF5, _ZIP = b"\x89HDF", b"PK"
_WEIGHTS_IN_ARCHIVE = "model.weights.h5"
# PyTorch's names of a batch normalization's arrays, by their number: without γ there are three.
_BATCH_NORM = {
  3: ("bias", "running_mean", "running_var"),
  4: ("weight", "bias", "running_mean", "running_var"),
}
_NUMBERED = re.compile(r"(conv2d|batch_normalization|activation|custom_scale_layer)(?:_(\d+))?")


def is_one(path: pathlib.Path, beginning: bytes) -> bool:
  """Whether a file is of HDF5, or an archive of Keras's, and not of PyTorch's."""
  if not beginning.startswith(_ZIP):
    return beginning.startswith(_HDF5)
  try:
    with zipfile.ZipFile(path) as archive:
      return _WEIGHTS_IN_ARCHIVE in archive.namelist()
  except Exception:  # it raises many kinds for damaged files, which PyTorch then reports
    return False


def read(path: pathlib.Path) -> StateDict:
  """Reads a file of Keras's.

  Args:
    path: of HDF5, or a .keras archive with such a file in it.

  Returns:
    Layer and leaf → array, such as "conv2d_1.weight" or "predictions.bias": the leaves have the
    names and the layout that PyTorch gives them.

  Raises:
    UserError: the file is damaged, or holds no layers.
    OSError: it cannot be read.
  """
  h5py = import_package("h5py")
  try:
    with h5py.File(_open(path), "r") as file:
      layers = dict(_layers(h5py, file))
  except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise
    reason = str(error.args[0] if error.args else error).partition(" (")[0]
    raise UserError(f"{path} is damaged, or no weights of Keras's: {reason}.") from error
  if not layers:
    raise UserError(f"{path} holds no weights; save them with model.save_weights(…).")
  number = numbers(layers)
  state_dict = {}
  for layer, arrays in layers.items():
    shapes = [values.shape for values in arrays]
    try:
      leaves = leaf_names(shapes)
    except ValueError:
      listed = ", ".join(str(list(shape)) for shape in shapes)
      raise UserError(
        f"The layer '{layer}' of {path} is of no known kind: its arrays are {listed}."
      ) from None
    for leaf, values in zip(leaves, arrays, strict=True):
      state_dict[f"{number[layer]}.{leaf}"] = to_torch(values)
  return state_dict


def _open(path: pathlib.Path) -> Any:
  if not zipfile.is_zipfile(path):
    return path
  with zipfile.ZipFile(path) as archive:
    return io.BytesIO(archive.read(_WEIGHTS_IN_ARCHIVE))


def _layers(h5py: ModuleType, file: Any) -> Iterator[tuple[str, list[np.ndarray]]]:
  """Layers that have arrays, in the order of Keras's `layer.weights`."""
  if "layers" in file:  # of Keras 3, where a group's name is another than the layer's
    for group in file["layers"].values():
      arrays = group.get("vars", {})
      if len(arrays):
        yield (
          _text(arrays.attrs["name"]),
          [_array(h5py, arrays[str(number)]) for number in range(len(arrays))],
        )
    return
  root = file.get("model_weights", file)
  for name in root.attrs.get("layer_names", ()):
    group = root[_text(name)]
    arrays = [_array(h5py, group[_text(leaf)]) for leaf in group.attrs["weight_names"]]
    if arrays:
      yield _text(name), arrays


def _array(h5py: ModuleType, found: Any) -> np.ndarray:
  if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiub":
    raise ValueError(f"'{getattr(found, 'name', found)}' is no array of numbers")
  return found[()]


def _text(name: str | bytes) -> str:
  return name.decode() if isinstance(name, bytes) else str(name)


def numbers(layers: Iterable[str]) -> dict[str, str]:
  """Layer → its name with a number that does not depend on the process."""
  found = {name: match for name in layers if (match := _NUMBERED.fullmatch(name))}
  names = {name: name for name in layers}
  for kind in {match[1] for match in found.values()}:
    built = sorted(
      (name for name, match in found.items() if match[1] == kind),
      key=lambda name: int(found[name][2] or 0),
    )
    names |= {name: f"{kind}_{number}" for number, name in enumerate(built, start=1)}
  return names


def leaf_names(shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
  """PyTorch's names of a layer's arrays.

  Args:
    shapes: in Keras's order.

  Raises:
    ValueError: they are those of no convolution, fully connected layer or batch normalization.
  """
  axes = [len(shape) for shape in shapes]
  if set(axes) == {1} and len(axes) in _BATCH_NORM:
    return _BATCH_NORM[len(axes)]
  if axes in ([2], [4], [2, 1], [4, 1]):
    return ("weight", "bias")[: len(axes)]
  raise ValueError("no known kind of layer")


def to_torch(values: np.ndarray) -> np.ndarray:
  """[height, width, in, out] → [out, in, height, width], [in, out] → [out, in]."""
  return values.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[values.ndim])


def from_torch(values: np.ndarray) -> np.ndarray:
  """The inverse of `to_torch`."""
  return values.transpose({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[values.ndim])
