"""What processes say to each other, for tests/test_hosts.py: run by each of several."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from speedpaper_jax.command_line import entry_point, host_flags
from speedpaper_jax.distributed import hosts, parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.run_data import RunData


def parse(arguments):
  parser = entry_point.ArgumentParser()
  parser.add_argument("--workdir", type=pathlib.Path)  # where each writes what it has found
  host_flags.add_to(parser)
  return parser.parse(arguments[1:])


def told(call):
  """The message of the UserError that a call raises."""
  try:
    call()
  except UserError as error:
    return str(error)
  return None


def fail():
  raise UserError(f"Process {jax.process_index()} has found a mistake.")


def main(options):
  entry_point.join_hosts(options)
  workdir = options.workdir
  index = jax.process_index()
  # Values that a sum in floating point would not leave as they are.
  arrays = {
    "half": np.array([-0.0, np.nan, 1e-40, 3.5]).astype(jnp.bfloat16),
    "odd number of bytes": np.array([1, 2, 3], np.uint8),
    "scalar": np.float32(7 + index),
    "nothing": np.zeros((0, 3), np.float32),
  }
  received = hosts.arrays_from_main(arrays if hosts.is_main() else None, arrays)
  mesh = parallel.make_mesh()
  rows = parallel.shard_batch(mesh, {"x": np.full(jax.local_device_count(), float(index))})["x"]
  result = {
    "is_main": hosts.is_main(),
    "several": hosts.are_several(),
    "patience": hosts.patience(),
    "from_main": hosts.from_main(lambda: {"index": jax.process_index(), "path": str(workdir)}),
    "mistake": told(lambda: hosts.from_main(fail)),
    "same": told(lambda: hosts.check_same("config", "a text")),
    "different": told(lambda: hosts.check_same("config", f"text of {index}")),
    "gathered": hosts.gather(f"{index} 猫 \udcff" if index else ""),
    "found by one": told(
      lambda: hosts.check_all(f"Process {index} has found a mistake." if index else None)
    ),
    "other data": told(RunData(("a", "b")[:: 1 - 2 * index], {}).check_processes),
    "opened by one": told(lambda: hosts.in_all(fail if index else lambda: None)),
    "bytes": {name: array.tobytes().hex() for name, array in received.items()},
    "owners": [device.process_index for device in mesh.devices],
    "rows": np.asarray(jax.jit(lambda x: x, out_shardings=replicated(mesh))(rows)).tolist(),
  }
  print("printed by the main process")
  (workdir / f"{index}.json").write_text(json.dumps(result))
  hosts.leave()


def replicated(mesh):
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


if __name__ == "__main__":
  entry_point.run(main, parse)
