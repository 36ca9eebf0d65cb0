"""Accelerators: their peaks as their makers publish them, found by the name that JAX gives them."""

import dataclasses

_GB = 1e9
_GIB = 2**30
_GBIT = 1e9 / 8
_TERA = 1e12


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator, in a host, in a slice.

  A slice is what the fast interconnect joins: a slice of a TPU pod, or the GPUs of one machine.

  Attributes:
    name: as in text for people.
    device_kinds: `device_kind` of JAX's devices.
    bfloat16_flops: FLOP/s of dense matrix products of bfloat16; a multiply-add is two.
    float32_flops: FLOP/s of convolutions of float32 in XLA's default precision: one pass of
      bfloat16 on a TPU, TF32 on a GPU.
    memory_bytes: of the chip's own memory.
    memory_bandwidth: bytes/s between chip and memory.
    interconnect_bandwidth: bytes/s that a chip sends over all its links to others of its slice,
      while it receives as many; half of what is published as bidirectional.
    network_bandwidth: a chip's share of its host's data-centre network, bytes/s in each direction.
      None where it is not published.
    chips_per_slice: at most, in one job.
    chips_per_host: that share the host's processors and network.
    host_processors: virtual CPUs (hardware threads) of such a host. None where it depends.
    clock: Hz of a TPU's cores, by which the compiler's cycles become time: the peak over the
      operations of a cycle, two for each of a core's 4 × 128 × 128 multipliers. None where it is
      not known.
    torus_axes: axes of the torus that the links form; 0 for a switch.
    wraps_at: a slice's axis is a ring where its length is a multiple of this, a line otherwise;
      0 for a switch.
  """

  name: str
  device_kinds: tuple[str, ...]
  bfloat16_flops: float
  float32_flops: float
  memory_bytes: int
  memory_bandwidth: float
  interconnect_bandwidth: float
  network_bandwidth: float | None
  chips_per_slice: int
  chips_per_host: int
  host_processors: int | None
  clock: float | None
  torus_axes: int
  wraps_at: int

  def peak_flops(self, dtype: str) -> float:
    """FLOP/s of convolutions whose inputs are "bfloat16" or "float32", in default precision."""
    return {"bfloat16": self.bfloat16_flops, "float32": self.float32_flops}[dtype]


CHIPS = (
  # docs.cloud.google.com/tpu/docs/v4: 275 TFLOP/s, 32 GiB, 1200 GB/s, 4096 chips to a pod; hosts of
  # 4 chips and 240 vCPUs. Six links of 50 GB/s a direction: Table 4 of arXiv 2304.01433.
  Chip(
    name="TPU v4",
    device_kinds=("TPU v4",),
    bfloat16_flops=275 * _TERA,
    float32_flops=275 * _TERA,
    memory_bytes=32 * _GIB,
    memory_bandwidth=1200 * _GB,
    interconnect_bandwidth=300 * _GB,
    network_bandwidth=None,
    chips_per_slice=4096,
    chips_per_host=4,
    host_processors=240,
    clock=1.05e9,
    torus_axes=3,
    wraps_at=4,
  ),
  # docs.cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB, 819 GB/s, interconnect 400 GB/s in both
  # directions (1600 Gbit/s in one), 256 chips to a pod, 51.2 TB/s all-reduce a pod (200 GB/s a
  # chip), hosts of 8 chips, 224 vCPUs and two network interfaces of 100 Gbit/s. Axes of 16 wrap.
  Chip(
    name="TPU v5e",
    device_kinds=("TPU v5 lite", "TPU v5e"),
    bfloat16_flops=197 * _TERA,
    float32_flops=197 * _TERA,
    memory_bytes=16 * _GIB,
    memory_bandwidth=819 * _GB,
    interconnect_bandwidth=200 * _GB,
    network_bandwidth=2 * 100 / 8 * _GBIT,
    chips_per_slice=256,
    chips_per_host=8,
    host_processors=224,
    clock=1.5e9,
    torus_axes=2,
    wraps_at=16,
  ),
  # docs.cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GiB, 2765 GB/s, interconnect 1200 GB/s in
  # both directions, 50 Gbit/s a chip to the data centre, 6144 of a pod's 8960 chips in a job, 208
  # vCPUs to a host of 4. Slices of whole cubes of 4×4×4 wrap.
  Chip(
    name="TPU v5p",
    device_kinds=("TPU v5", "TPU v5p"),
    bfloat16_flops=459 * _TERA,
    float32_flops=459 * _TERA,
    memory_bytes=95 * _GIB,
    memory_bandwidth=2765 * _GB,
    interconnect_bandwidth=600 * _GB,
    network_bandwidth=50 * _GBIT,
    chips_per_slice=6144,
    chips_per_host=4,
    host_processors=208,
    clock=1.75e9,
    torus_axes=3,
    wraps_at=4,
  ),
  # docs.cloud.google.com/tpu/docs/v6e: 918 TFLOP/s, 32 GB, 1638 GB/s, interconnect 800 GB/s in both
  # directions, 256 chips to a pod, hosts of 8 with four network interfaces of 200 Gbit/s.
  Chip(
    name="TPU v6e",
    device_kinds=("TPU v6 lite", "TPU v6e"),
    bfloat16_flops=918 * _TERA,
    float32_flops=918 * _TERA,
    memory_bytes=32 * _GIB,
    memory_bandwidth=1638 * _GB,
    interconnect_bandwidth=400 * _GB,
    network_bandwidth=4 * 200 / 8 * _GBIT,
    chips_per_slice=256,
    chips_per_host=8,
    host_processors=180,
    clock=None,
    torus_axes=2,
    wraps_at=16,
  ),
  # NVIDIA's A100 data sheet, SXM: 312 TFLOP/s, TF32 156, NVLink 600 GB/s in both directions. The
  # networks of the three are those of NVIDIA's DGX machines, one interface of 200 Gbit/s (A100) or
  # 400 Gbit/s (H100, H200) to a GPU; other machines have others.
  Chip(
    name="NVIDIA A100 40GB",
    device_kinds=("NVIDIA A100-SXM4-40GB",),
    bfloat16_flops=312 * _TERA,
    float32_flops=156 * _TERA,
    memory_bytes=40 * _GIB,
    memory_bandwidth=1555 * _GB,
    interconnect_bandwidth=300 * _GB,
    network_bandwidth=200 * _GBIT,
    chips_per_slice=8,
    chips_per_host=8,
    host_processors=None,
    clock=None,
    torus_axes=0,
    wraps_at=0,
  ),
  Chip(
    name="NVIDIA A100 80GB",
    device_kinds=("NVIDIA A100-SXM4-80GB",),
    bfloat16_flops=312 * _TERA,
    float32_flops=156 * _TERA,
    memory_bytes=80 * _GIB,
    memory_bandwidth=2039 * _GB,
    interconnect_bandwidth=300 * _GB,
    network_bandwidth=200 * _GBIT,
    chips_per_slice=8,
    chips_per_host=8,
    host_processors=None,
    clock=None,
    torus_axes=0,
    wraps_at=0,
  ),
  # NVIDIA's H100 data sheet, SXM, without sparsity: 989.4 TFLOP/s, TF32 494.7, 3.35 TB/s, NVLink
  # 900 GB/s in both directions.
  Chip(
    name="NVIDIA H100",
    device_kinds=("NVIDIA H100 80GB HBM3",),
    bfloat16_flops=989.4 * _TERA,
    float32_flops=494.7 * _TERA,
    memory_bytes=80 * _GIB,
    memory_bandwidth=3350 * _GB,
    interconnect_bandwidth=450 * _GB,
    network_bandwidth=400 * _GBIT,
    chips_per_slice=8,
    chips_per_host=8,
    host_processors=None,
    clock=None,
    torus_axes=0,
    wraps_at=0,
  ),
  # NVIDIA's H200 data sheet, SXM: an H100 with 141 GB at 4.8 TB/s.
  Chip(
    name="NVIDIA H200",
    device_kinds=("NVIDIA H200",),
    bfloat16_flops=989.4 * _TERA,
    float32_flops=494.7 * _TERA,
    memory_bytes=141 * 10**9,
    memory_bandwidth=4800 * _GB,
    interconnect_bandwidth=450 * _GB,
    network_bandwidth=400 * _GBIT,
    chips_per_slice=8,
    chips_per_host=8,
    host_processors=None,
    clock=None,
    torus_axes=0,
    wraps_at=0,
  ),
)


def find(device_kind: str) -> Chip | None:
  """The chip that JAX calls `device_kind`; None for one that is not in the table, as a CPU."""
  return next((chip for chip in CHIPS if device_kind in chip.device_kinds), None)
