"""What the training loop costs over its own compiled step: `python -m benchmarks.loop_overhead`.

The loop reads and augments data, logs, and writes checkpoints; the bare step runs on one batch that
stays on the device. Both take turns in one process, so that a machine that slows down slows both.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.config import files as config_files
from speedpaper_jax.data.pipeline import train_batches
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.distributed import parallel
from speedpaper_jax.steps import assembly, build
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

_CONFIG = config_flags.DEFINE_config_file("config", help_string="BN-Inception's by default.")
_STEPS = flags.DEFINE_integer("steps", 240, "Steps of a turn, with one checkpoint in the middle.")
_TURNS = flags.DEFINE_integer("turns", 3, "Turns of each.")


def main(argv: list[str]) -> None:
  """Prints milliseconds a step of both, and their ratio."""
  del argv
  entry_point.set_up_jax()
  config = _CONFIG.value or config_files.load("configs/bn_inception.py")
  config.duration = f"{_STEPS.value} steps"
  config.eval_every = "0 steps"
  config.checkpoint_every = f"{_STEPS.value // 2} steps"
  ratios = []
  for turn in range(_TURNS.value):
    bare, loop = time_bare_step(config), time_loop(config)
    ratios.append(loop / bare)
    print(
      f"turn {turn + 1}: bare step {bare * 1e3:.1f} ms, loop {loop * 1e3:.1f} ms a step, "
      f"ratio {ratios[-1]:.3f}",
      flush=True,
    )
  print(f"median ratio {statistics.median(ratios):.3f}")


def time_bare_step(config: ml_collections.ConfigDict) -> float:
  """Seconds a step of the compiled step alone, on a resident batch."""
  config, mesh = assembly.prepare(config)
  split = open_split(config.data.name, config.data.train_split, config.data.dir)
  parts = assembly.assemble(config, mesh, split.num_classes, len(split))
  state, step = parts.initial_state(), assembly.compile_step(parts)
  batches = train_batches(
    split,
    image_size=config.data.image_size,
    batch_size=config.batch_size,
    seed=config.seed,
    augmentation=build.build_augmentation(config),
  )
  batch = parallel.shard_batch(mesh, next(batches))
  batches.close()
  state, _ = step(state, batch)
  jax.block_until_ready(state)
  began = time.monotonic()
  for _ in range(_STEPS.value - 1):
    state, _ = step(state, batch)
  jax.block_until_ready(state)
  return (time.monotonic() - began) / (_STEPS.value - 1)


def time_loop(config: ml_collections.ConfigDict) -> float:
  """Seconds a step of a whole run, between its first and its last log line."""
  with tempfile.TemporaryDirectory() as workdir:
    directory = RunDirectory(pathlib.Path(workdir))
    train.run(config, directory)
    entries = [entry for entry in directory.metrics() if entry["split"] == "train"]
  seconds = entries[-1]["seconds"] - entries[0]["seconds"]
  return seconds / (entries[-1]["step"] - entries[0]["step"])


if __name__ == "__main__":
  entry_point.run(main, entry_point.parse_config_flags)
