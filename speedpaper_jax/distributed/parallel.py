"""Devices: the mesh, how state and batches lie on it, and the two ways to run a step on it.

Both ways take and return the same global arrays, so that state, data and checkpoints do not depend
on the choice: the state is replicated, a batch is split by rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from speedpaper_jax.errors import UserError, did_you_mean

AXIS = "devices"
MODES = ("jit", "pmap")

_REPLICATED = PartitionSpec()
_BY_ROWS = PartitionSpec(AXIS)


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Devices in one row, all of all processes by default.

  Those of one process stand side by side, in the order of the processes, so that the rows that a
  process reads are the ones that its devices work on. `jax.make_mesh` orders TPUs by their place
  in the network instead, which an exchange among all of them does not depend on.
  """
  row = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
  return Mesh(np.array(row), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def platform(mesh: Mesh) -> str:
  """What the mesh is made of: "cpu", "gpu" or "tpu"."""
  return mesh.devices.flat[0].platform


def axis_name(mode: str) -> str | None:
  """The mapped axis that a step sees: `AXIS` with pmap semantics, none under `jit`."""
  if mode not in MODES:
    raise UserError(f"config.parallel='{mode}' is unknown.{did_you_mean(mode, MODES)}")
  return AXIS if mode == "pmap" else None


def check_batch(mesh: Mesh, batch_size: int, accumulation_steps: int = 1) -> None:
  """Raises a UserError unless every device gets equally many rows of every micro-batch."""
  pieces = mesh.size * accumulation_steps
  if batch_size < pieces or batch_size % pieces:
    of_steps = f" times {accumulation_steps} accumulation steps" if accumulation_steps > 1 else ""
    raise UserError(
      f"A batch of {batch_size} does not divide over {mesh.size} devices{of_steps}. "
      f"Set config.batch_size to a multiple of {pieces}."
    )


def check_can_compile() -> None:
  """Raises a UserError where JAX is set to compile nothing; steps are compiled before they run."""
  if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
    raise UserError(
      "JAX_DISABLE_JIT is set, but the training step has to be compiled; leave it out. To look "
      "into a step, call what speedpaper_jax.steps.step.make_train_step returns."
    )


def replicate(mesh: Mesh, tree: Any) -> Any:
  """Puts a copy of each leaf, which every process holds, on every device."""
  sharding = NamedSharding(mesh, _REPLICATED)
  return jax.tree.map(lambda leaf: from_host(leaf, sharding), tree)


def from_host(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
  """A global array of the values that every process holds.

  `jax.device_put` would do so too, but would send them all to all processes to compare.
  """
  host = np.asarray(array)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def replicated_template(mesh: Mesh, shapes: Any) -> Any:
  """The same shapes and dtypes, with the sharding of `replicate`."""
  sharding = NamedSharding(mesh, _REPLICATED)
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
    shapes,
  )


def shard_batch(mesh: Mesh, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Makes global arrays, split by rows, from the rows that this process has read."""
  sharding = NamedSharding(mesh, _BY_ROWS)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
  }


def jit_train_step(step: Callable[..., Any], mesh: Mesh, mode: str) -> jax.stages.Wrapped:
  """`jax.jit` of `step(state, batch) → state, metrics`; the state's buffers are donated.

  Args:
    step: from `make_train_step` with `axis_name=axis_name(mode)`.
    mesh: the devices.
    mode: "jit", where the compiler divides one global program among the devices, or "pmap", where
      the step runs on each device with its own rows and meets the others over `AXIS` only.
  """
  if axis_name(mode) is not None:
    # check_vma would make the gradient of replicated parameters a sum over the devices already.
    step = jax.shard_map(
      step, mesh=mesh, in_specs=(_REPLICATED, _BY_ROWS), out_specs=_REPLICATED, check_vma=False
    )
  return jit_on_mesh(step, mesh, donate_state=True)


def jit_on_mesh(
  function: Callable[..., Any], mesh: Mesh, donate_state: bool = False
) -> jax.stages.Wrapped:
  """`jax.jit` of `function(replicated, batch split by rows) → replicated`."""
  replicated, by_rows = NamedSharding(mesh, _REPLICATED), NamedSharding(mesh, _BY_ROWS)
  return jax.jit(
    function,
    in_shardings=(replicated, by_rows),
    out_shardings=replicated,
    donate_argnums=0 if donate_state else (),
  )
