"""How long a training step takes at least, from counts and a chip's peaks: arithmetic alone.

Times are seconds, sizes bytes. Nothing here is measured: peaks are reached by no real program, and
`HOP_SECONDS` is an assumption.
"""

import dataclasses
import math
from collections.abc import Sequence

from speedpaper_jax.compilation.chips import Chip

HOP_SECONDS = 1e-6
"""A message's way from one chip to the next, software included; assumed, as makers publish none."""


@dataclasses.dataclass(frozen=True)
class Interconnect:
  """What joins the chips of a slice.

  Attributes:
    bandwidth: bytes/s that every chip can send, while it receives as many.
    hops: between the two chips that are farthest apart.
  """

  bandwidth: float
  hops: int

  @classmethod
  def of(cls, chip: Chip, shape: Sequence[int]) -> "Interconnect":
    """The network of a slice.

    A chip has two links along each axis of the torus. An axis that does not wrap is a line, at
    whose ends a chip has one; the chip with the fewest links sets the pace.

    Args:
      chip: of which it is made.
      shape: chips along each axis, as (4, 4). For chips behind a switch their number.
    """
    if not chip.torus_axes:
      return cls(chip.interconnect_bandwidth, hops=1)
    link = chip.interconnect_bandwidth / (2 * chip.torus_axes)
    links = hops = 0
    for length in shape:
      wraps = length % chip.wraps_at == 0
      links += (2 if wraps else 1) if length > 1 else 0
      hops += length // 2 if wraps else length - 1
    return cls(links * link, hops)

  def all_reduce_seconds(self, size: float, members: int) -> float:
    """Time of the sum of an array of `size` bytes over `members` chips, which all receive it.

    Each chip sends 2·(n-1)/n of the array's bytes, by a scatter of partial sums and a gather. The
    least time is that of two journeys across the network.
    """
    return 2 * self.all_gather_seconds(size, members)

  def all_gather_seconds(self, size: float, members: int) -> float:
    """Time until `members` chips all have an array of `size` bytes, of which each has a part.

    A scatter of partial sums (reduce-scatter) of such an array takes as long.
    """
    if members < 2:
      return 0.0
    hops = min(self.hops, members - 1)
    return (members - 1) / members * size / self.bandwidth + hops * HOP_SECONDS

  def permute_seconds(self, size: float) -> float:
    """Time of an array of `size` bytes from each chip to another, the farthest."""
    return size / self.bandwidth + self.hops * HOP_SECONDS


@dataclasses.dataclass(frozen=True)
class StepTime:
  """The least time of a step.

  Attributes:
    compute: of its floating-point operations at the chip's peak.
    memory: of its bytes to and from the chip's memory.
    interconnect: of its collectives, one after the other.
  """

  compute: float
  memory: float
  interconnect: float

  @property
  def bound(self) -> str:
    """The longest of the three."""
    return max(("compute", "memory", "interconnect"), key=lambda name: getattr(self, name))

  @property
  def overlapped(self) -> float:
    """If all three go on at the same time: no step can be faster."""
    return max(self.compute, self.memory, self.interconnect)

  @property
  def in_turn(self) -> float:
    """If chips compute at one of the two peaks, and do nothing during collectives."""
    return max(self.compute, self.memory) + self.interconnect


def utilisation(flops: float, seconds: float, peak: float) -> float:
  """What part of a chip's peak `flops` in `seconds` are; MFU where they are the network's own."""
  return flops / (seconds * peak)


def slices_all_reduce_seconds(size: float, slices: int, chips_per_slice: int, chip: Chip) -> float:
  """Time of an all-reduce between slices over the data-centre network.

  Within a slice the sum is scattered before, so that each chip sends its part, one of
  `chips_per_slice`, to its like in the other slices, over its share of its host's network. The
  scatter and the gather afterwards make up the all-reduce within the slice; their time is not
  included, nor the latency of the data-centre network.

  Args:
    size: bytes of the array.
    slices: how many.
    chips_per_slice: in each.
    chip: whose `network_bandwidth` is published.
  """
  if slices < 2:
    return 0.0
  assert chip.network_bandwidth is not None, chip.name
  return 2 * (slices - 1) / slices * size / chips_per_slice / chip.network_bandwidth


def squarest(chips: int, axes: int) -> tuple[int, ...]:
  """The shape with `axes` axes of powers of two that is nearest to a square or a cube.

  Args:
    chips: a power of two.
    axes: how many.
  """
  exponent = math.log2(chips)
  if not exponent.is_integer():
    raise ValueError(f"{chips} chips are no power of two.")
  return tuple(2 ** ((int(exponent) + axis) // axes) for axis in range(axes))
