"""Published peaks, found by the name that JAX gives a device."""

import dataclasses

import pytest

from speedpaper_jax.compilation import chips

TPUS = [chip for chip in chips.CHIPS if chip.torus_axes]


@pytest.mark.parametrize(
  ("device_kind", "name"),
  [
    ("TPU v4", "TPU v4"),
    ("TPU v5 lite", "TPU v5e"),
    ("TPU v5", "TPU v5p"),
    ("TPU v6 lite", "TPU v6e"),
    ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 40GB"),
    ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB"),
    ("NVIDIA H100 80GB HBM3", "NVIDIA H100"),
    ("NVIDIA H200", "NVIDIA H200"),
  ],
)
def test_a_device_is_found_by_its_kind(device_kind, name):
  assert chips.find(device_kind).name == name


@pytest.mark.parametrize("device_kind", ["cpu", "TPU v2", "NVIDIA H100 PCIe", ""])
def test_others_are_not(device_kind):
  assert chips.find(device_kind) is None


def test_no_two_chips_share_a_kind():
  kinds = [kind for chip in chips.CHIPS for kind in chip.device_kinds]
  assert len(set(kinds)) == len(kinds)


def test_a_tpu_computes_float32_in_one_pass_of_bfloat16_and_a_gpu_as_tf32():
  for chip in chips.CHIPS:
    ratio = chip.peak_flops("bfloat16") / chip.peak_flops("float32")
    assert ratio == pytest.approx(1 if chip in TPUS else 2)


def test_other_dtypes_have_no_peak():
  with pytest.raises(KeyError):
    chips.CHIPS[0].peak_flops("int8")


def test_a_pod_of_v5e_sums_as_fast_as_is_published():
  v5e = chips.find("TPU v5 lite")
  assert v5e.interconnect_bandwidth * v5e.chips_per_slice == 51.2e12
  assert v5e.network_bandwidth * v5e.chips_per_slice * 8 == 6.4e12  # bit/s


@pytest.mark.parametrize(("kind", "cores"), [("TPU v4", 2), ("TPU v5 lite", 1), ("TPU v5", 2)])
def test_the_clock_is_that_of_the_peak(kind, cores):
  chip = chips.find(kind)
  operations_a_cycle = cores * 4 * 128 * 128 * 2
  assert chip.clock * operations_a_cycle == pytest.approx(chip.bfloat16_flops, rel=0.005)


def test_a_chip_cannot_be_changed():
  with pytest.raises(dataclasses.FrozenInstanceError):
    chips.CHIPS[0].clock = 1.0
