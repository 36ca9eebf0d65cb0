"""Tensors become arrays exactly, or are refused by name."""

import ml_dtypes
import numpy as np
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import arrays

torch = pytest.importorskip("torch")
VALUES = [0.0, -1.5, 1.75]


@pytest.mark.parametrize(
  ("dtype", "expected"),
  [
    ("float64", "float64"),
    ("float32", "float32"),
    ("float16", "float16"),
    ("bfloat16", "float32"),
    ("float8_e4m3fn", "float32"),
    ("float8_e5m2", "float32"),
    ("int64", "int64"),
    ("int8", "int8"),
    ("bool", "bool"),
    ("complex64", "complex64"),
  ],
)
def test_pytorchs_dtypes(dtype, expected):
  tensor = torch.tensor(VALUES).to(getattr(torch, dtype))
  array = arrays.of_tensor(tensor.requires_grad_(dtype == "float32"), "x", "it")
  assert array.dtype == expected
  np.testing.assert_array_equal(array, np.asarray(VALUES).astype(expected))


@pytest.mark.parametrize(
  ("dtype", "numpy", "expected"),
  [
    ("F64", "float64", "float64"),
    ("F16", "float16", "float16"),
    ("BF16", ml_dtypes.bfloat16, "float32"),
    ("F8_E4M3", ml_dtypes.float8_e4m3fn, "float32"),
    ("F8_E5M2", ml_dtypes.float8_e5m2, "float32"),
    ("I64", "int64", "int64"),
    ("BOOL", "bool", "bool"),
  ],
)
def test_safetensors_dtypes(dtype, numpy, expected):
  values = np.asarray(VALUES).astype(numpy)
  array = arrays.of_bytes(dtype, [3, 1], values.tobytes(), "x", "it")
  assert (array.dtype, array.shape) == (np.dtype(expected), (3, 1))
  np.testing.assert_array_equal(array[:, 0], np.asarray(VALUES).astype(expected))


@pytest.mark.parametrize("values", [torch.tensor(3.0), torch.zeros(0, 2), torch.ones(2, 3).T])
def test_shapes(values):
  assert arrays.of_tensor(values, "x", "it").shape == tuple(values.shape)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
  ("make", "kind"),
  [
    (lambda: torch.eye(3).to_sparse(), "sparse"),
    (lambda: torch.ones(3, device="meta"), "without values (of the device 'meta')"),
    (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
  ],
)
def test_tensors_without_plain_values(make, kind):
  with pytest.raises(UserError) as refusal:
    arrays.of_tensor(make(), "fc.weight", "it")
  assert str(refusal.value) == f"The tensor 'fc.weight' of it is {kind}; save it with plain values."


def test_an_unknown_dtype():
  with pytest.raises(UserError, match=r"The tensor 'fc.weight' of it is of F4; save it in float3"):
    arrays.of_bytes("F4", [2], b"x", "fc.weight", "it")
