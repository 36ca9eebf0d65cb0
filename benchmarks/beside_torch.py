"""BN-Inception's training step beside PyTorch's: `python -m benchmarks.beside_torch`.

Both train the same network, `pretrainedmodels`' BN-Inception, on one batch that stays in memory, in
float32 by SGD with momentum: ours compiled, PyTorch's eager and with channels last, which its users
set for speed on CPUs. They take turns in one process, so that a machine that slows down slows both.
It needs PyTorch and the packages of requirements-references.txt.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.config import files as config_files
from speedpaper_jax.data.normalization import DEFAULT

_CLASSES = 10


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.beside_torch",
    description="Times BN-Inception's training step beside PyTorch's, by turns.",
  )
  parser.add_argument(
    "--image_size",
    type=entry_point.at_least(1, at_most=4096),
    default=32,
    metavar="N",
    help="pixels, height and width (default: 32)",
  )
  parser.add_argument(
    "--batch_size",
    type=entry_point.at_least(1, at_most=2**20),
    default=32,
    metavar="N",
    help="images a step (default: 32)",
  )
  parser.add_argument(
    "--steps",
    type=entry_point.at_least(1),
    default=10,
    metavar="N",
    help="steps of a turn (default: 10)",
  )
  parser.add_argument(
    "--turns",
    type=entry_point.at_least(1),
    default=9,
    metavar="N",
    help="turns of each (default: 9)",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints images a second of both, and the ratio."""
  entry_point.set_up_jax()
  generator = np.random.default_rng(0)
  rows, size = options.batch_size, options.image_size
  images = generator.integers(0, 256, (rows, size, size, 3), np.uint8)
  labels = generator.integers(0, _CLASSES, rows, np.int32)
  steps = {"ours": our_steps(images, labels), "PyTorch": their_steps(images, labels)}
  rates: dict[str, list[float]] = {name: [] for name in steps}
  for _ in range(options.turns):
    for name, take in steps.items():
      began = time.monotonic()
      take(options.steps)
      rates[name].append(options.steps * rows / (time.monotonic() - began))
  for name, each in rates.items():
    print(
      f"{name}: {statistics.median(each):.0f} images/s (turns: {min(each):.0f} to {max(each):.0f})"
    )
  ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
  print(f"ours / PyTorch: {statistics.median(ratios):.2f}, by turns")


def our_steps(images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
  """A function that takes a number of steps of our network."""
  import jax

  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.steps import assembly

  config = config_files.load("configs/bn_inception.py")
  config.model.dialect = "pretrainedmodels"
  config.batch_size, config.data.image_size = len(images), images.shape[1]
  config, mesh = assembly.prepare(config)
  parts = assembly.assemble(config, mesh, _CLASSES, epoch_size=1442)
  state, step = parts.initial_state(), assembly.compile_step(parts)
  mask = np.ones(len(images), np.float32)
  batch = parallel.shard_batch(mesh, {"image": images, "label": labels, "mask": mask})

  def take(count: int) -> None:
    nonlocal state
    for _ in range(count):
      state, _ = step(state, batch)
    jax.block_until_ready(state)

  take(1)
  return take


def their_steps(images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
  """A function that takes a number of steps of PyTorch's."""
  from speedpaper_jax.interop import references
  from speedpaper_jax.interop.names import implementations

  torch = references.import_package("torch")
  names = implementations("bn_inception", "pretrainedmodels")[0]
  module = references.build("bn_inception", names, _CLASSES, with_aux=False)
  module = module.float().train().to(memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
  inputs = torch.from_numpy(np.array(DEFAULT.apply(images))).permute(0, 3, 1, 2)
  targets = torch.from_numpy(labels.astype(np.int64))

  def take(count: int) -> None:
    for _ in range(count):
      optimizer.zero_grad()
      torch.nn.functional.cross_entropy(module(inputs), targets).backward()
      optimizer.step()

  take(1)
  return take


if __name__ == "__main__":
  entry_point.run(main, parse)
