"""Inception-v4 on 8 to 4,096 chips, on paper: `python -m benchmarks.scaling`.

Counts of one chip's work are those that `speedpaper_jax.compile_check` prints; the rest is the
arithmetic of `speedpaper_jax/compilation/roofline.py`. Only the input is measured, on one core of
this machine. docs/scaling.md has the assumptions.
"""

import argparse
import dataclasses
import io
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from speedpaper_jax.command_line import entry_point
from speedpaper_jax.compilation import chips
from speedpaper_jax.compilation.chips import Chip
from speedpaper_jax.compilation.roofline import Interconnect, slices_all_reduce_seconds, squarest
from speedpaper_jax.config import files as config_files

CONFIG = "configs/inception_v4.py:data=imagenet2012"
ROWS = 32  # images a chip
FIXED_BATCH = 8192  # images, for the table of a batch that does not grow
COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # chips

# Of ILSVRC 2012's training images: bytes of the archive over images.
BYTES_PER_IMAGE = 147_897_477_120 / 1_281_167
# A message from one host to another through the data-centre network; assumed.
NETWORK_SECONDS = 50e-6


@dataclasses.dataclass(frozen=True)
class Work:
  """What a step of `ROWS` images asks of a chip, whatever the number of chips.

  Attributes:
    flops: floating-point operations.
    memory_traffic: bytes to and from the chip's memory.
    state_traffic: those of them that the number of images does not change: parameters, batch_stats,
      optimiser state and average are read and written.
    cycles: of a TPU v5e, by its compiler's estimate.
    gradient_bytes: that the chips sum over each other.
  """

  flops: float
  memory_traffic: float
  state_traffic: float
  cycles: float
  gradient_bytes: float


# python -m speedpaper_jax.compile_check --config=configs/inception_v4.py:data=imagenet2012
#   --topology=v5e:4x4 --config.model.dtype=bfloat16 --config.batch_size=512 --json=FILE
INCEPTION_V4 = Work(
  flops=2_295_761_993_728,
  memory_traffic=11_337_897_944,
  state_traffic=1_366_764_808,
  cycles=88_864_579,
  gradient_bytes=85_738_684,
)


# Batch normalizations on the longest way through the network, each waiting for those before it;
# those of parallel branches share collectives. The stem has 9, each module A 3, B 5 and C 4, and
# the reductions 3 and 4.
LEVELS = 9 + 4 * 3 + 3 + 7 * 5 + 4 + 3 * 4


def count_batch_norms() -> tuple[int, int]:
  """Batch normalizations of the network, and channels of all of them together."""
  import jax

  from speedpaper_jax.distributed import parallel
  from speedpaper_jax.steps import build

  config, mesh = config_files.load(CONFIG), parallel.make_mesh()
  model = build.build_model(config, 1000, mesh)
  images = jax.ShapeDtypeStruct((1, config.data.image_size, config.data.image_size, 3), "float32")
  key = jax.eval_shape(lambda: jax.random.key(0))
  variables = jax.eval_shape(lambda k, x: model.init(k, x, train=False), key, images)
  sizes = [leaf.size for leaf in jax.tree.leaves(variables["batch_stats"])]
  return len(sizes) // 2, sum(sizes) // 2  # a mean and a variance each


@dataclasses.dataclass(frozen=True)
class Step:
  """A step on so many chips; times in seconds.

  Attributes:
    chips: how many.
    slices: into how many the chips are divided.
    rows: images of each chip.
    bound: the larger of computing at the chip's peak and of moving data at its memory's.
    estimate: the compiler's, of its instructions; None where there is none for the chip.
    gradients: their all-reduce, within the slices and between them.
    global_jit: of joint statistics with three collectives a level.
    global_pmap: of joint statistics with two collectives a level.
  """

  chips: int
  slices: int
  rows: float
  bound: float
  estimate: float | None
  gradients: float
  global_jit: float
  global_pmap: float

  def seconds(self, batch_norm: float = 0.0) -> float:
    """Of the whole step, without overlap; by the estimate where there is one.

    Args:
      batch_norm: time of joint statistics; 0 for those of a chip's own rows, or of groups of them.
    """
    return (self.estimate or self.bound) + self.gradients + batch_norm

  def images_per_second(self, batch_norm: float = 0.0) -> float:
    """Of all chips."""
    return self.chips * self.rows / self.seconds(batch_norm)


def step(chip: Chip, count: int, rows: float, work: Work, channels: int) -> Step:
  """The times of a step.

  Args:
    chip: all are alike.
    count: chips, a power of two.
    rows: images on each.
    work: of `ROWS` images.
    channels: of all batch normalizations.
  """
  per_slice = min(count, 2 ** (chip.chips_per_slice.bit_length() - 1))
  slices = count // per_slice
  network = Interconnect.of(chip, squarest(per_slice, chip.torus_axes))
  share = rows / ROWS
  traffic = work.state_traffic + share * (work.memory_traffic - work.state_traffic)
  bound = max(share * work.flops / chip.bfloat16_flops, traffic / chip.memory_bandwidth)
  estimate = None
  if chip.name == "TPU v5e" and chip.clock:
    estimate = max(share * work.cycles / chip.clock, bound)

  def all_reduce(size: float) -> float:
    between = slices_all_reduce_seconds(size, slices, per_slice, chip)
    journeys = 2 * NETWORK_SECONDS if slices > 1 else 0.0
    return network.all_reduce_seconds(size, per_slice) + between + journeys

  # One or two float32 sums of each channel of a level's layers.
  vector = 4 * channels / LEVELS
  one, two = all_reduce(vector), all_reduce(2 * vector)
  gathered = network.all_gather_seconds(2 * vector * per_slice, per_slice)
  if slices > 1:
    assert chip.network_bandwidth is not None
    others = 2 * vector * (count - per_slice)
    gathered += others / chip.network_bandwidth + NETWORK_SECONDS
  return Step(
    chips=count,
    slices=slices,
    rows=rows,
    bound=bound,
    estimate=estimate,
    gradients=all_reduce(work.gradient_bytes),
    global_jit=LEVELS * (2 * one + two),
    global_pmap=LEVELS * (gathered + two),
  )


def steps_table(title: str, steps: list[Step]) -> str:
  """Times, and what they make of images/s."""
  lines = [
    title,
    "  chips  slices   images  bound  compiler's  gradients  global BN  global BN    images/s  "
    "linear     linear",
    "                  a chip   [ms]    estimate       [ms]   jit [ms]  pmap [ms]      own BN  "
    "own BN  global BN",
  ]
  first = steps[0].images_per_second() / steps[0].chips
  for one in steps:
    rate = one.images_per_second()
    linear = first * one.chips
    estimate = "–" if one.estimate is None else f"{one.estimate * 1e3:.1f}"
    lines.append(
      f"  {one.chips:>5}{one.slices:>8}{one.rows:>9g}{one.bound * 1e3:>7.2f}{estimate:>12}"
      f"{one.gradients * 1e3:>11.2f}{one.global_jit * 1e3:>11.2f}{one.global_pmap * 1e3:>11.2f}"
      f"{rate:>12,.0f}{rate / linear:>8.1%}"
      f"{one.images_per_second(one.global_jit) / linear:>11.1%}"
    )
  return "\n".join(lines)


def input_table(chip: Chip, steps: list[Step], images_per_core: float) -> str:
  """What a host has to read and to decode."""
  lines = [
    f"Input of a host of {chip.chips_per_host} chips {chip.name}, {BYTES_PER_IMAGE / 1e3:.1f} kB "
    f"an image, {images_per_core:.0f} images/s decoded and cropped on one core",
    "  chips  images/s a host  read [MB/s]  cores to decode  its virtual CPUs  "
    "all hosts read [GB/s]",
  ]
  for one in steps:
    rate = one.images_per_second() / one.chips * chip.chips_per_host
    lines.append(
      f"  {one.chips:>5}{rate:>17,.0f}{rate * BYTES_PER_IMAGE / 1e6:>13,.0f}"
      f"{rate / images_per_core:>17,.0f}{chip.host_processors or '–':>18}"
      f"{one.images_per_second() * BYTES_PER_IMAGE / 1e9:>23,.1f}"
    )
  return "\n".join(lines)


def images_decoded_on_one_core(images: int = 200) -> tuple[float, int]:
  """Images/s that a host decodes and crops for accelerators, by processor time.

  Returns:
    The rate, and the bytes of the JPEG of 500×375 pixels that stands for all.
  """
  from speedpaper_jax.data.augment import augment_but_for_distortions
  from speedpaper_jax.steps import build

  config = config_files.load(CONFIG)
  augmentation = build.build_augmentation(config)
  rng = np.random.default_rng(0)
  coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
  pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float64)
  noisy = np.clip(pixels + rng.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(noisy).save(file, "JPEG", quality=92)
  jpeg = file.getvalue()
  began = time.process_time()
  for _ in range(images):
    augment_but_for_distortions(jpeg, config.data.image_size, augmentation, rng)
  return images / (time.process_time() - began), len(jpeg)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """Reads the command line, which has no flags."""
  parser = entry_point.ArgumentParser(
    prog="python -m benchmarks.scaling",
    description="Prints how fast Inception-v4 trains on 8 to 4,096 chips, on paper.",
  )
  return parser.parse(arguments[1:])


def main(options: argparse.Namespace) -> None:
  """Prints the tables."""
  import jax

  del options
  jax.config.update("jax_platforms", "cpu")
  layers, channels = count_batch_norms()
  rate, size = images_decoded_on_one_core()
  v5e, v5p = (next(chip for chip in chips.CHIPS if chip.name == f"TPU {n}") for n in ("v5e", "v5p"))
  grown = {
    chip.name: [step(chip, count, ROWS, INCEPTION_V4, channels) for count in COUNTS]
    for chip in (v5e, v5p)
  }
  fixed = [step(v5e, count, FIXED_BATCH / count, INCEPTION_V4, channels) for count in COUNTS[5:]]
  print(
    f"Inception-v4, 299×299, bfloat16: {layers} batch normalizations on {LEVELS} levels, of "
    f"{channels:,} channels; {INCEPTION_V4.gradient_bytes / 1e6:.1f} MB of gradients\n"
    f"JPEG of {size / 1e3:.1f} kB decoded and cropped at {rate:.0f} images/s on one core here"
  )
  tables = [steps_table(f"{name}, {ROWS} images a chip", steps) for name, steps in grown.items()]
  tables.append(steps_table(f"{v5e.name}, {FIXED_BATCH:,} images in all", fixed))
  tables += [input_table(chip, grown[chip.name][::3], rate) for chip in (v5e, v5p)]
  print("\n" + "\n\n".join(tables))


if __name__ == "__main__":
  entry_point.run(main, parse)
