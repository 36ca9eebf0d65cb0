"""What the training loop costs over its own compiled step: `python -m benchmarks.loop_overhead`.

The loop reads and augments data, logs, and writes checkpoints; the bare step runs on one batch that
stays on the device. Both take turns in one process, so that a machine that slows down slows both.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speedpaper_jax.command_line import config_flag, entry_point

if TYPE_CHECKING:
  import ml_collections


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line; the result's `config` is the config, with what overrides its fields."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.loop_overhead",
    description="Times the training loop beside its own compiled step, by turns. "
    "--config.KEY=VALUE overrides a field of the config, as in training.",
  )
  config_flag.add_to(parser, default="configs/bn_inception.py")
  parser.add_argument(
    "--steps",
    type=entry_point.at_least(2),
    default=240,
    metavar="N",
    help="steps of a turn, with one checkpoint in the middle (default: 240)",
  )
  parser.add_argument(
    "--turns",
    type=entry_point.at_least(1),
    default=3,
    metavar="N",
    help="turns of each (default: 3)",
  )
  return config_flag.parse(parser, arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints milliseconds a step of both, and their ratio."""
  entry_point.set_up_jax()
  config, steps = options.config, options.steps
  config.duration = f"{steps} steps"
  config.eval_every = "0 steps"
  config.checkpoint_every = f"{steps // 2} steps"
  ratios = []
  for turn in range(options.turns):
    bare, loop = time_bare_step(config, steps), time_loop(config)
    ratios.append(loop / bare)
    print(
      f"turn {turn + 1}: bare step {bare * 1e3:.1f} ms, loop {loop * 1e3:.1f} ms a step, "
      f"ratio {ratios[-1]:.3f}",
      flush=True,
    )
  print(f"median ratio {statistics.median(ratios):.3f}")


def time_bare_step(config: "ml_collections.ConfigDict", steps: int) -> float:
  """Seconds a step of the compiled step alone, on a resident batch, over so many steps."""
  import jax

  from speedpaper_jax.data.pipeline import train_batches
  from speedpaper_jax.data.sources import open_split
  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.steps import assembly, build

  config, mesh = assembly.prepare(config)
  data = config.data
  split = open_split(data.name, data.train_split, data.dir, data.split_seed)
  parts = assembly.assemble(config, mesh, split.num_classes, len(split))
  state, step = parts.initial_state(), assembly.compile_step(parts)
  batches = train_batches(
    split,
    image_size=config.data.image_size,
    batch_size=config.batch_size,
    seed=config.seed,
    augmentation=build.build_augmentation(config),
    distort_on_device=parts.distorts_images,
  )
  batch = parallel.shard_batch(mesh, next(batches))
  batches.close()
  state, _ = step(state, batch)
  jax.block_until_ready(state)
  began = time.monotonic()
  for _ in range(steps - 1):
    state, _ = step(state, batch)
  jax.block_until_ready(state)
  return (time.monotonic() - began) / (steps - 1)


def time_loop(config: "ml_collections.ConfigDict") -> float:
  """Seconds a step of a whole run, between its first and its last log line."""
  from speedpaper_jax.storage.run_directory import RunDirectory
  from speedpaper_jax.training import train

  with tempfile.TemporaryDirectory() as workdir:
    directory = RunDirectory(pathlib.Path(workdir))
    train.run(config, directory)
    entries = [entry for entry in directory.metrics() if entry["split"] == "train"]
  seconds = entries[-1]["seconds"] - entries[0]["seconds"]
  return seconds / (entries[-1]["step"] - entries[0]["step"])


if __name__ == "__main__":
  entry_point.run(main, parse)
