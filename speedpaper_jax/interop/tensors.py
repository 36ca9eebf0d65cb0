"""Weights between PyTorch's tensors and Flax's variables: every tensor, bit for bit."""

import difflib
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.names import Names

PyTree = Any
StateDict = dict[str, np.ndarray]

# Leaf of ours → theirs.
_LEAVES = {
  "kernel": "weight",
  "depthwise_kernel": "depthwise.weight",
  "pointwise_kernel": "pointwise.weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
# What PyTorch counts beside the running statistics; nothing here depends on it.
_COUNTER = "num_batches_tracked"
_MOST_STEPS = np.iinfo(np.int32).max  # that a training state can count


class Tensor(NamedTuple):
  """A tensor under both names.

  Attributes:
    ours: collection and path.
    shape: of ours.
    theirs: key of the state dict.
  """

  ours: tuple[str, ...]
  shape: tuple[int, ...]
  theirs: str

  @property
  def their_shape(self) -> tuple[int, ...]:
    """Shape in PyTorch."""
    return self.to_torch(np.broadcast_to(np.float32(0), self.shape)).shape

  def to_torch(self, values: np.ndarray) -> np.ndarray:
    """[height, width, in, out] → [out, in, height, width], [in, out] → [out, in]."""
    if values.ndim == 4 and self._sees_whole_map:
      return values.transpose(3, 2, 0, 1).reshape(values.shape[-1], -1)
    return values.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[values.ndim])

  def from_torch(self, values: np.ndarray) -> np.ndarray:
    """The inverse of `to_torch`."""
    if len(self.shape) == 4 and self._sees_whole_map:
      height, width, features, out = self.shape
      return values.reshape(out, features, height, width).transpose(2, 3, 1, 0)
    return values.transpose({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[values.ndim])

  @property
  def _sees_whole_map(self) -> bool:
    """Whether it is a fully connected layer's, whose input PyTorch flattens channels first."""
    return self.ours[-2] == "fully_connected"


def tensors(network: nn.Module, names: Names, image_size: int) -> list[Tensor]:
  """All tensors of a network that training changes.

  Args:
    network: from `models.create`.
    names: of a PyTorch implementation.
    image_size: pixels; auxiliary heads' shapes depend on it.
  """
  return [
    Tensor(path, shape, f"{names.layer('/'.join(path[1:-1]))}.{_LEAVES[path[-1]]}")
    for path, shape in _shapes(network, image_size).items()
  ]


@functools.cache  # recognizing a file, reading it and writing it each ask
def _shapes(network: nn.Module, image_size: int) -> dict[tuple[str, ...], tuple[int, ...]]:
  """Collection and path → shape."""
  images = jnp.zeros((1, image_size, image_size, 3))
  variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
  leaves = flax.traverse_util.flatten_dict(variables)
  return {path: leaf.shape for path, leaf in leaves.items()}


def from_torch(
  state_dict: Mapping[str, np.ndarray], table: list[Tensor], source: str
) -> dict[str, PyTree]:
  """Variables `params` and `batch_stats` from a state dict.

  Args:
    state_dict: name → array.
    table: from `tensors`.
    source: what the state dict is called in error messages.

  Raises:
    UserError: a tensor is missing, left over, of another shape, or its values are no weights.
  """
  missing = [tensor.theirs for tensor in table if tensor.theirs not in state_dict]
  expected = {tensor.theirs for tensor in table} | counters(table)
  extra = [name for name in state_dict if name not in expected]
  if missing:
    is_another = len(missing) >= len(table) // 2
    remark = " It is of another network." if is_another else _nearest(missing[0], extra)
    raise UserError(f"{source} lacks the tensor '{missing[0]}'{_and_more(missing)}.{remark}")
  if extra:
    raise UserError(
      f"{source} has the tensor '{extra[0]}'{_and_more(extra)}, which this network has not."
    )
  for tensor in table:
    shape = state_dict[tensor.theirs].shape
    if shape != tensor.their_shape:
      raise UserError(
        f"The tensor '{tensor.theirs}' of {source} has the shape {list(shape)}, not "
        f"{list(tensor.their_shape)}."
      )
  for tensor in table:
    _check_values(tensor, state_dict[tensor.theirs], source)
  flat = {tensor.ours: tensor.from_torch(state_dict[tensor.theirs]) for tensor in table}
  return flax.traverse_util.unflatten_dict(flat)


def _check_values(tensor: Tensor, values: np.ndarray, source: str) -> None:
  """Raises a UserError for values that no trained network has, or float32 has not."""
  if values.dtype.kind != "f":
    raise UserError(
      f"The tensor '{tensor.theirs}' of {source} holds {values.dtype}, and weights are floating-"
      f"point numbers."
    )
  with np.errstate(over="ignore"):
    rounded = values.astype(np.float32)
  faults = {
    "not finite": ~np.isfinite(values),
    "beyond the range of float32": ~np.isfinite(rounded),
  }
  if tensor.ours[-1] == "var":
    faults["negative, and a variance is not"] = values < 0
  for fault, places in faults.items():
    if places.any():
      raise UserError(
        f"Of the {values.size} values of the tensor '{tensor.theirs}' of {source}, "
        f"{places.sum()} {'is' if places.sum() == 1 else 'are'} {fault}, such as "
        f"{values[places][0]}; the weights are damaged, or their training had diverged."
      )


def to_torch(variables: Mapping[str, PyTree], table: list[Tensor], steps: int) -> StateDict:
  """The state dict of variables.

  Args:
    variables: `params` and `batch_stats`.
    table: from `tensors`.
    steps: taken in training, which PyTorch's batch normalization keeps count of.
  """
  flat = flax.traverse_util.flatten_dict(dict(variables))
  state_dict = {
    tensor.theirs: np.ascontiguousarray(tensor.to_torch(np.asarray(flat[tensor.ours])))
    for tensor in table
  }
  return state_dict | {name: np.asarray(steps, np.int64) for name in counters(table)}


def counters(table: list[Tensor]) -> set[str]:
  """Names of the step counters that PyTorch's batch normalization has."""
  return {
    f"{tensor.theirs.removesuffix('running_mean')}{_COUNTER}"
    for tensor in table
    if tensor.theirs.endswith(".running_mean")
  }


def steps_of(state_dict: Mapping[str, np.ndarray]) -> int:
  """Training steps that the counters of a state dict show; 0 where it has none.

  A part of the network that was frozen for a while has counted fewer, so the largest counts.
  """
  steps = [
    float(values.max())
    for name, values in state_dict.items()
    if name.endswith(f".{_COUNTER}") and values.size and values.dtype.kind in "iuf"
  ]
  return int(max((count for count in steps if 0 < count <= _MOST_STEPS), default=0))


def _and_more(names: list[str]) -> str:
  return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _nearest(name: str, available: list[str]) -> str:
  """The names of the file that a missing one may be meant by."""
  nearest = difflib.get_close_matches(name, available, n=3, cutoff=0.6)
  listed = ", ".join(f"'{each}'" for each in nearest)
  return f" Nearest to it, the file has {listed}." if nearest else ""
