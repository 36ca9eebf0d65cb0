"""Tensors as NumPy arrays, exactly; what has no numbers to take as they are is refused."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.references import import_package

# safetensors' names of the dtypes that NumPy has, or JAX gives it.
_DTYPES: dict[str, Any] = {
  "BOOL": np.bool_,
  "U8": np.uint8,
  "I8": np.int8,
  "U16": np.uint16,
  "I16": np.int16,
  "U32": np.uint32,
  "I32": np.int32,
  "U64": np.uint64,
  "I64": np.int64,
  "F16": np.float16,
  "F32": np.float32,
  "F64": np.float64,
  "BF16": ml_dtypes.bfloat16,
  "F8_E4M3": ml_dtypes.float8_e4m3fn,
  "F8_E5M2": ml_dtypes.float8_e5m2,
  "C64": np.complex64,
}


def of_tensor(tensor: Any, name: str, source: str) -> np.ndarray:
  """A tensor of PyTorch's; bfloat16 and narrower floats, which NumPy has not, become float32.

  Raises:
    UserError: it is sparse, quantised or without values.
  """
  torch = import_package("torch")
  kinds = {
    "sparse": tensor.layout != torch.strided,
    "quantised": tensor.is_quantized,
    "without values (of the device 'meta')": tensor.is_meta,
  }
  for kind, holds in kinds.items():
    if holds:
      raise UserError(f"The tensor '{name}' of {source} is {kind}; save it with plain values.")
  if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4 and tensor.dtype != torch.float16:
    tensor = tensor.float()
  return tensor.numpy(force=True)


def of_bytes(
  dtype: str, shape: Sequence[int], values: bytes | bytearray, name: str, source: str
) -> np.ndarray:
  """A tensor of safetensors'; as `of_tensor`.

  Raises:
    UserError: nobody here knows the dtype.
  """
  if dtype not in _DTYPES:
    raise UserError(f"The tensor '{name}' of {source} is of {dtype}; save it in float32.")
  array = np.frombuffer(values, _DTYPES[dtype]).reshape(shape)
  return array.astype(np.float32) if _DTYPES[dtype].__module__ == "ml_dtypes" else array
