"""State dicts in files: PyTorch's own format, read without running code in it, and safetensors."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.references import import_package
from speedpaper_jax.interop.tensors import StateDict

_TORCH = (".pth", ".pt", ".bin")
_SAFETENSORS = ".safetensors"
# Under what names training scripts keep the state dict beside other things.
_NESTED = ("state_dict", "model_state_dict", "model")


def read(path: pathlib.Path) -> StateDict:
  """Reads a file of tensors.

  Args:
    path: .pth, .pt or .bin of `torch.save`, or .safetensors. A state dict that lies inside a
      checkpoint is found, and the "module." of `DataParallel` taken off.

  Returns:
    Name → array.

  Raises:
    UserError: the file is missing, damaged, holds no tensors or has another ending.
  """
  _check_ending(path)
  if not path.is_file():
    raise UserError(f"There is no file {path}.")
  try:
    if path.suffix == _SAFETENSORS:
      content: Any = import_package("safetensors.numpy").load_file(path)
    else:
      torch = import_package("torch")
      content = torch.load(path, map_location="cpu", weights_only=True)
  except UserError:
    raise
  except Exception as error:  # both raise many kinds for damaged files
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    raise UserError(f"{path} is damaged or holds more than tensors: {reason[:200]}") from error
  if isinstance(content, Mapping):
    content = next((content[key] for key in _NESTED if key in content), content)
  if not isinstance(content, Mapping) or not content:
    raise UserError(f"{path} holds no state dict; save one with torch.save(model.state_dict()).")
  state_dict = {name.removeprefix("module."): _array(values) for name, values in content.items()}
  for name, values in state_dict.items():
    if not isinstance(values, np.ndarray):
      raise UserError(f"'{name}' in {path} is no tensor; save the state dict alone.")
  return state_dict


def write(path: pathlib.Path, state_dict: StateDict) -> None:
  """Writes a file of tensors; its ending chooses the format, as in `read`.

  Raises:
    UserError: another ending, or the file cannot be written.
  """
  _check_ending(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == _SAFETENSORS:
      import_package("safetensors.numpy").save_file(state_dict, path)
    else:
      torch = import_package("torch")
      # Copies, since PyTorch shares no memory that may not be written.
      copies = {name: torch.from_numpy(values.copy()) for name, values in state_dict.items()}
      torch.save(copies, path)
  except (OSError, RuntimeError) as error:
    raise UserError(f"{path} cannot be written: {error}") from error


def _array(values: Any) -> Any:
  """A tensor as an array; everything else as it is."""
  if not hasattr(values, "detach"):
    return values
  tensor = values.detach()
  if tensor.dtype == import_package("torch").bfloat16:  # which NumPy has not
    tensor = tensor.float()
  return tensor.numpy()


def _check_ending(path: pathlib.Path) -> None:
  if path.suffix not in (*_TORCH, _SAFETENSORS):
    raise UserError(
      f"'{path}' does not tell its format; let it end in .pth (PyTorch) or .safetensors."
    )
