"""Compiles a training step for a TPU slice that is not there, and says whether it fits.

  python -m speedpaper_jax.compile_check --config=configs/bn_inception.py --topology=v5e:4x4

The step is the one that `speedpaper_jax.main` trains with. What it needs of each chip's memory is
the compiler's own plan; how fast it can be at most follows from its operations, its traffic and the
chip's published peaks. No TPU is needed, but libtpu, which `pip install "jax[tpu]"` brings.
"""

import argparse
import os
import pathlib
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speedpaper_jax.command_line import config_flag, entry_point
from speedpaper_jax.compilation import chips
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files

if TYPE_CHECKING:
  import jax
  import ml_collections

  from speedpaper_jax.compilation.report import Report
  from speedpaper_jax.steps.assembly import Assembly

_EXAMPLES = "v5e:4x4, v5e:16x16, v6e:8x8, v5p:4x4x4 or v4:4x4x4"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line; the result's `config` is the config, with what overrides its fields."""
  parser = entry_point.ArgumentParser(
    prog="python -m speedpaper_jax.compile_check",
    description="Compiles a config's training step for a TPU slice, without a TPU, and prints what "
    "it needs of a chip's memory and how fast it can be at most. The exit status is 1 where it "
    "does not fit. --config.KEY=VALUE overrides a field, as in training.",
  )
  config_flag.add_to(parser)
  parser.add_argument("--topology", metavar="NAME", help=f"the slice: {_EXAMPLES}")
  parser.add_argument(
    "--top",
    type=entry_point.at_least(1),
    default=0,
    metavar="N",
    help="also print the N instructions with the highest estimates, and their layers",
  )
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there")
  options = config_flag.parse(parser, arguments[1:])
  if options.config is None:
    raise UserError("Name a config with --config=FILE, as in --config=configs/inception_v4.py.")
  if options.topology is None:
    raise UserError(f"Name a TPU slice with --topology, as in {_EXAMPLES}.")
  experiment = options.config.get("experiment")
  if experiment != "train":
    raise UserError(
      f"config.experiment='{experiment}' trains several networks; name the config of one, as "
      f"configs/inception_v4.py."
    )
  return options


def main(options: argparse.Namespace) -> None:
  """Compiles what the flags name and prints the report."""
  if options.json is not None:
    output_files.check(options.json)
  from speedpaper_jax.compilation import report as compile_report

  config, devices = options.config, slice_devices(options.topology)
  chip = chips.find(devices[0].device_kind)
  if chip is None:
    known = ", ".join(one.name for one in chips.CHIPS if one.torus_axes)
    raise UserError(
      f"The peaks of a {devices[0].device_kind} are not known here; choose one of {known}."
    )
  shape = slice_shape(options.topology)
  report = check(config, chip, shape, devices)
  compile_report.check_fits(report)
  print(compile_report.text(report, options.top))
  if options.json is not None:
    output_files.write_json(options.json, compile_report.as_json(report, options.top))


def slice_shape(topology: str) -> tuple[int, ...]:
  """Chips along each axis of a valid topology: "v5e:4x4" → (4, 4)."""
  found = re.search(r"[\dx]+(?=(_\w+)?$)", topology)
  assert found is not None, topology
  return tuple(int(length) for length in found[0].split("x"))


def slice_devices(topology: str) -> "list[jax.Device]":
  """The devices of a slice that is not there; programs can be compiled for them alone.

  Args:
    topology: a TPU's generation and the shape of the slice, such as "v5e:4x4".

  Raises:
    UserError: there is no such slice, or libtpu, the compiler, is not installed.
  """
  import jax
  from jax.experimental import topologies

  jax.config.update("jax_platforms", "cpu")  # nothing runs; it would look for accelerators
  # A program that was compiled for devices that are not there can be kept, but not read back.
  jax.config.update("jax_enable_compilation_cache", False)
  os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # of the machine's metadata, which outside a cloud hangs
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # it takes no TPU away from others
  # Only so that it does not complain that it cannot find them out.
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
  # One device a chip, as where a v4 is, and not one for each of its two cores.
  fields = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
  try:
    return list(topologies.get_topology_desc(topology, platform="tpu", **fields).devices)
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).splitlines()[0].partition(": ")[2].rstrip(".")
    raise UserError(
      f"There is no TPU slice '{topology}' ({reason}); name one as in {_EXAMPLES}."
    ) from error
  except RuntimeError as error:  # JAX does not find libtpu
    raise UserError(
      f"The compiler for TPUs is not installed; it comes with "
      f'`pip install "jax[tpu]=={jax.__version__}"`, which needs no TPU.'
    ) from error


def check(
  config: "ml_collections.ConfigDict",
  chip: chips.Chip,
  shape: tuple[int, ...],
  devices: "Sequence[jax.Device]",
) -> "Report":
  """Compiles the training step of a config.

  Args:
    config: of training.
    chip: what the devices are.
    shape: of the slice.
    devices: to compile for; they need not be there.

  Raises:
    UserError: the config is not valid for these devices, or the step does not fit their memory.
  """
  import jax

  from speedpaper_jax.compilation import report as compile_report
  from speedpaper_jax.compilation.program import analyse
  from speedpaper_jax.descriptions.operations import training_flops
  from speedpaper_jax.steps import assembly

  config, mesh = assembly.prepare(config, devices)
  num_classes, epoch_size = _data_set_sizes(config)
  # The weights of classes do not change the program.
  parts = assembly.assemble(config, mesh, num_classes, epoch_size, [1] * num_classes)
  print(f"Compiling for {mesh.size} chips {chip.name}; this takes minutes.", flush=True)
  began = time.monotonic()
  try:
    compiled = assembly.compile_step(parts)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    needed, available = memory_of_error(str(error))
    compile_report.refuse(config, chip, mesh.size, needed, available)
  print(f"Compiled in {(time.monotonic() - began) / 60:.1f} minutes.\n", flush=True)
  program = analyse(compiled, mesh.size, config.accumulation_steps)
  steps = parts.plan.total_steps
  image_flops = training_flops(parts.model, config.data.image_size)
  return compile_report.Report(config, chip, shape, _sizes(parts), program, steps, image_flops)


def _data_set_sizes(config: "ml_collections.ConfigDict") -> tuple[int, int]:
  """Classes and training images; the latter matter to the schedule alone."""
  from speedpaper_jax.config.data_sets import DATA_SETS
  from speedpaper_jax.data.sources import open_split

  try:
    data = config.data
    split = open_split(data.name, data.train_split, data.dir, data.split_seed)
  except UserError:  # it need not be prepared for this
    known = DATA_SETS.get(config.data.name)
    if known is None or known.num_classes is None or known.train_examples is None:
      raise
    return known.num_classes, known.train_examples
  return split.num_classes, len(split)


def _sizes(parts: "Assembly") -> dict[str, int]:
  """Bytes of state and batch on each chip."""
  import jax

  from speedpaper_jax.steps.step import batch_template

  def size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

  state, config = parts.state_template, parts.config
  rows, image_size = config.batch_size // parts.mesh.size, config.data.image_size
  return {
    "parameters": size(state.params),
    "batch_stats": size(state.batch_stats),
    "optimiser state": size(state.opt_state),
    "averaged copy": size(state.average),
    "batch": size(batch_template(rows, image_size, parts.distorts_images)),
  }


def memory_of_error(message: str) -> tuple[str, str]:
  """What XLA's error RESOURCE_EXHAUSTED says that is needed, and that there is."""
  at_least = ""
  found = re.search(r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm", message)
  if found is None:
    # Told early, within seconds, of temporaries alone.
    at_least = "more than "
    found = re.search(r"\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)", message)
  if found is None:
    return "more memory", "less"
  needed, available = (re.sub(r"([KMGT])$", r" \1iB", amount) for amount in found.groups())
  return f"{at_least}{needed} of memory", available


if __name__ == "__main__":
  entry_point.run(main, parse)
