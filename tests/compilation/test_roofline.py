"""The formulas, against numbers worked out by hand."""

import pytest

from speedpaper_jax.compilation import chips
from speedpaper_jax.compilation.roofline import (
  HOP_SECONDS,
  Interconnect,
  StepTime,
  slices_all_reduce_seconds,
  squarest,
  utilisation,
)

V5E = chips.find("TPU v5 lite")
V5P = chips.find("TPU v5")
H100 = chips.find("NVIDIA H100 80GB HBM3")


class TestNetwork:
  @pytest.mark.parametrize(
    ("chip", "shape", "gigabytes_a_second", "hops"),
    [
      (V5E, (16, 16), 200, 8 + 8),  # two rings: all four links
      (V5E, (4, 4), 100, 3 + 3),  # two lines: a corner has two links
      (V5E, (8, 16), 150, 7 + 8),
      (V5E, (1, 8), 50, 7),
      (V5P, (4, 4, 4), 600, 2 + 2 + 2),
      (V5P, (2, 2, 1), 200, 1 + 1),
      (H100, (8,), 450, 1),
    ],
  )
  def test_of_a_slice(self, chip, shape, gigabytes_a_second, hops):
    network = Interconnect.of(chip, shape)
    assert network.bandwidth == pytest.approx(gigabytes_a_second * 1e9)
    assert network.hops == hops

  def test_an_all_reduce_sends_twice_n_minus_1_over_n_of_the_bytes(self):
    network = Interconnect(bandwidth=100e9, hops=6)
    # 2 · 15/16 · 16 MB at 100 GB/s are 300 µs, and there and back are twelve hops.
    assert network.all_reduce_seconds(16e6, 16) == pytest.approx(300e-6 + 12 * HOP_SECONDS)

  def test_a_gather_sends_half_of_that(self):
    network = Interconnect(bandwidth=100e9, hops=6)
    assert network.all_gather_seconds(16e6, 16) == pytest.approx(150e-6 + 6 * HOP_SECONDS)

  def test_members_of_a_small_group_are_not_far_apart(self):
    network = Interconnect(bandwidth=100e9, hops=6)
    assert network.all_gather_seconds(0, 2) == pytest.approx(HOP_SECONDS)

  def test_one_chip_has_nobody_to_send_to(self):
    assert Interconnect(bandwidth=0, hops=0).all_reduce_seconds(16e6, 1) == 0

  def test_a_permutation_sends_all_bytes_once(self):
    network = Interconnect(bandwidth=100e9, hops=6)
    assert network.permute_seconds(1e6) == pytest.approx(10e-6 + 6 * HOP_SECONDS)


@pytest.mark.parametrize(
  ("compute", "memory", "interconnect", "bound"),
  [(3, 2, 1, "compute"), (2, 3, 1, "memory"), (1, 2, 3, "interconnect")],
)
def test_the_longest_time_bounds_a_step(compute, memory, interconnect, bound):
  time = StepTime(compute, memory, interconnect)
  assert time.bound == bound
  assert time.overlapped == 3


def test_collectives_that_are_waited_for_come_on_top():
  assert StepTime(compute=3, memory=2, interconnect=1).in_turn == 4


def test_utilisation_is_the_part_of_the_peak():
  assert utilisation(flops=50e12, seconds=0.5, peak=200e12) == 0.5


class TestSlices:
  def test_each_chip_sends_its_part_through_its_share_of_the_hosts_network(self):
    # 2 · 1/2 · 256 MB / 256 chips = 1 MB at 3.125 GB/s.
    assert slices_all_reduce_seconds(256e6, 2, 256, V5E) == pytest.approx(320e-6)

  def test_one_slice_needs_no_network(self):
    assert slices_all_reduce_seconds(256e6, 1, 256, V5E) == 0


@pytest.mark.parametrize(
  ("chips_", "axes", "shape"),
  [
    (8, 2, (2, 4)),
    (256, 2, (16, 16)),
    (8, 3, (2, 2, 2)),
    (128, 3, (4, 4, 8)),
    (4096, 3, (16, 16, 16)),
    (1, 2, (1, 1)),
  ],
)
def test_the_squarest_shape_of_a_power_of_two(chips_, axes, shape):
  assert squarest(chips_, axes) == shape


def test_other_numbers_of_chips_have_no_shape():
  with pytest.raises(ValueError, match="24 chips are no power of two"):
    squarest(24, 2)
