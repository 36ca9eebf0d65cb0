"""BN-Inception's training step beside PyTorch's: `python -m benchmarks.beside_torch`.

Both train the same network, `pretrainedmodels`' BN-Inception, on one batch that stays in memory, in
float32 by SGD with momentum: ours compiled, PyTorch's eager and with channels last, which its users
set for speed on CPUs. They take turns in one process, so that a machine that slows down slows both.
It needs PyTorch and the packages of requirements-references.txt.
"""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import flags

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.config import files as config_files
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.distributed import parallel
from speedpaper_jax.interop import references
from speedpaper_jax.interop.names import implementations
from speedpaper_jax.steps import assembly

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Pixels, height and width.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a step.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps of a turn.")
_TURNS = flags.DEFINE_integer("turns", 9, "Turns of each.")

_CLASSES = 10


def main(argv: list[str]) -> None:
  """Prints images a second of both, and the ratio."""
  del argv
  entry_point.set_up_jax()
  generator = np.random.default_rng(0)
  rows, size = _BATCH_SIZE.value, _IMAGE_SIZE.value
  images = generator.integers(0, 256, (rows, size, size, 3), np.uint8)
  labels = generator.integers(0, _CLASSES, rows, np.int32)
  steps = {"ours": our_steps(images, labels), "PyTorch": their_steps(images, labels)}
  rates: dict[str, list[float]] = {name: [] for name in steps}
  for _ in range(_TURNS.value):
    for name, take in steps.items():
      began = time.monotonic()
      take(_STEPS.value)
      rates[name].append(_STEPS.value * rows / (time.monotonic() - began))
  for name, each in rates.items():
    print(
      f"{name}: {statistics.median(each):.0f} images/s (turns: {min(each):.0f} to {max(each):.0f})"
    )
  ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
  print(f"ours / PyTorch: {statistics.median(ratios):.2f}, by turns")


def our_steps(images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
  """A function that takes a number of steps of our network."""
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
  entry_point.run(main, entry_point.parse_flags)
