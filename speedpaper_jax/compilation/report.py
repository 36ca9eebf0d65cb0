"""What a compiled training step asks of a chip, and how fast it can be at most: text and JSON."""

import dataclasses
import math
import textwrap
from typing import Any, NoReturn

import ml_collections

from speedpaper_jax.compilation.chips import Chip
from speedpaper_jax.compilation.program import Collective, Program
from speedpaper_jax.compilation.roofline import HOP_SECONDS, Interconnect, StepTime, utilisation
from speedpaper_jax.errors import UserError

_WIDTH = 100
_MIB = 2**20
NOTES = "\n".join(
  textwrap.fill(note, _WIDTH)
  for note in (
    "Operations are those that XLA counts, about six for each multiply-add of the forward pass, "
    "more where a form for speed multiplies with zeros, too; MFU is of six for each. "
    "Memory traffic is what the program's instructions read from the chip's main memory and write "
    "there, each array once; what stays in a memory on the chip does not count.",
    "Batch normalization's collectives carry statistics and their gradients, or gradients of γ and "
    f"β alone. A hop between chips is assumed to take {HOP_SECONDS * 1e6:g} µs.",
    "By these counts no step is faster than the largest of the three times. The compiler's "
    "estimate is the cycles that it expects of its instructions, one after the other, and the "
    "collectives' least time. Neither is a measurement.",
  )
)


@dataclasses.dataclass(frozen=True)
class Report:
  """A training step compiled for a slice.

  Attributes:
    config: of training.
    chip: of which the slice is made.
    shape: of the slice, chips along each axis.
    state: bytes on a chip of "parameters", "batch_stats", "optimiser state" and "averaged copy",
      and of its "batch", without padding.
    program: what was compiled.
    steps: of the whole run.
    image_flops: floating-point operations that the network needs for an image, without those of the
      form that it is computed in.
  """

  config: ml_collections.ConfigDict
  chip: Chip
  shape: tuple[int, ...]
  state: dict[str, int]
  program: Program
  steps: int
  image_flops: float

  @property
  def chips(self) -> int:
    """In the slice."""
    return math.prod(self.shape)

  @property
  def rows(self) -> int:
    """Images of a step on a chip."""
    return self.config.batch_size // self.chips

  @property
  def peak(self) -> float:
    """FLOP/s of the chip for the network's dtype."""
    return self.chip.peak_flops(self.config.model.dtype)

  @property
  def network(self) -> Interconnect:
    """What joins the chips."""
    return Interconnect.of(self.chip, self.shape)

  @property
  def time(self) -> StepTime:
    """The least time of a step."""
    return StepTime(
      compute=self.program.flops / self.peak,
      memory=self.program.memory_traffic / self.chip.memory_bandwidth,
      interconnect=sum(
        collective_seconds(collective, self.network) for collective in self.program.collectives
      ),
    )

  @property
  def estimated_seconds(self) -> float | None:
    """A step by the compiler's estimate of its instructions; None where there is none."""
    if self.program.cycles is None or self.chip.clock is None:
      return None
    return self.program.cycles / self.chip.clock

  @property
  def step_seconds(self) -> dict[str, float]:
    """A step's time in words of how it is computed, the estimate last where there is one."""
    times = {
      f"bound by {self.time.bound}, if all three overlap": self.time.overlapped,
      "if the rest waits for collectives": self.time.in_turn,
    }
    if self.estimated_seconds is not None:
      times["by the compiler's estimate"] = self.estimated_seconds + self.time.interconnect
    return times

  def chip_hours(self, seconds: float) -> float:
    """Of the whole run, if a step takes `seconds`: hours times chips, without evaluations."""
    return self.steps * seconds * self.chips / 3600

  def images_per_second(self, seconds: float) -> float:
    """Of all chips together, if a step takes `seconds`."""
    return self.config.batch_size / seconds

  def utilisation(self, seconds: float) -> float:
    """MFU, the part of the chips' peak that is used if a step takes `seconds`."""
    # A form for speed multiplies with zeros, too; a step with frozen layers needs fewer.
    flops = min(self.program.flops, self.image_flops * self.rows)
    return utilisation(flops, seconds, self.peak)


def collective_seconds(collective: Collective, network: Interconnect) -> float:
  """The least time of a collective, as often as it runs in a step."""
  if collective.kind == "all-reduce":
    once = network.all_reduce_seconds(collective.size, collective.members)
  elif collective.kind in ("collective-permute", "collective-broadcast"):
    once = network.permute_seconds(collective.size)
  else:
    once = network.all_gather_seconds(collective.size, collective.members)
  return once * collective.times


def check_fits(report: Report) -> None:
  """Raises a UserError if the program needs more memory than a chip has."""
  total = report.program.memory.total
  if total > report.chip.memory_bytes:
    needed = f"{_gib(total)} of memory"
    refuse(report.config, report.chip, report.chips, needed, _gib(report.chip.memory_bytes))


def refuse(
  config: ml_collections.ConfigDict, chip: Chip, chips: int, needed: str, available: str
) -> NoReturn:
  """Raises the UserError of a batch that does not fit.

  Args:
    config: of training.
    chip: whose memory is too small.
    chips: in the slice.
    needed: as "20 GiB of memory".
    available: as "16 GiB".
  """
  smaller = "Lower config.batch_size or raise config.accumulation_steps"
  if config.model.dtype == "float32":
    smaller += ", or set config.model.dtype=bfloat16"
  raise UserError(
    f"A batch of {config.batch_size} images, {config.batch_size // chips} a chip, does not fit: "
    f"it needs {needed}, and a {chip.name} has {available}. {smaller}."
  )


def _gib(size: int) -> str:
  return f"{size / 2**30:.2f} GiB"


def text(report: Report, top: int = 0) -> str:
  """The whole report, 100 columns wide at most.

  Args:
    report: what was compiled.
    top: how many of the instructions to list.
  """
  sections = (_title, _memory, _work, _collectives, _time, _whole_run)
  listed = [_instructions(report, top)] if top else []
  return "\n\n".join([*(section(report) for section in sections), *listed, NOTES])


def _title(report: Report) -> str:
  config, size = report.config, report.config.data.image_size
  statistics = f"{config.batch_norm.statistics} statistics"
  if config.batch_norm.statistics == "group":
    statistics = f"statistics of groups of {config.batch_norm.virtual_batch_size}"
  if not config.batch_norm.enabled:
    statistics = "no batch normalization"
  shape = "×".join(map(str, report.shape))
  steps = config.accumulation_steps
  micro_batches = f" in {steps} micro-batches" if steps > 1 else ""
  return (
    f"{config.model.name}, {config.model.dtype}, {statistics}, {config.parallel}\n"
    f"{report.chips} chips {report.chip.name} ({shape}), {config.batch_size} images of "
    f"{size}×{size} a step, {report.rows} a chip{micro_batches}"
  )


def _memory(report: Report) -> str:
  memory = report.program.memory
  rows = dict(report.state)
  rows["padding of these"] = memory.arguments - sum(report.state.values())
  rows["temporaries, most of them activations"] = memory.temporaries
  rows["results besides the new state"] = memory.outputs
  rows["program"] = memory.code
  lines = ["Memory of a chip [MiB]"]
  lines += [_row(name, f"{size / _MIB:,.1f}") for name, size in rows.items()]
  share = memory.total / report.chip.memory_bytes
  total = _row("total", f"{memory.total / _MIB:,.1f}")
  lines.append(f"{total}   of {report.chip.memory_bytes / _MIB:,.0f}, {share:.1%}")
  return "\n".join(lines)


def _row(name: str, *cells: str) -> str:
  return f"  {name:42}" + "".join(f"{cell:>14}" for cell in cells)


def _heading(name: str, *cells: str) -> str:
  return f"{name:44}" + "".join(f"{cell:>14}" for cell in cells)


def _work(report: Report) -> str:
  flops, traffic = report.program.flops / 1e9, report.program.memory_traffic / 1e6
  return "\n".join(
    [
      _heading("Work of a chip in a step", "in all", "an image"),
      _row("operations [GFLOP]", f"{flops:,.1f}", f"{flops / report.rows:,.2f}"),
      _row("memory traffic [MB]", f"{traffic:,.1f}", f"{traffic / report.rows:,.2f}"),
    ]
  )


def _collectives(report: Report) -> str:
  groups: dict[tuple[str, bool], list[Collective]] = {}
  for collective in report.program.collectives:
    groups.setdefault((collective.kind, collective.of_batch_norm), []).append(collective)
  lines = [_heading("Collectives of a step", "count", "MB", "ms")]
  for (kind, of_batch_norm), members in groups.items():
    seconds = sum(collective_seconds(collective, report.network) for collective in members)
    size = sum(collective.size * collective.times for collective in members)
    count = sum(collective.times for collective in members)
    name = f"{kind}, {'batch normalization' if of_batch_norm else 'gradients and others'}"
    lines.append(_row(name, f"{count}", f"{size / 1e6:,.3f}", f"{seconds * 1e3:.3f}"))
  return "\n".join(lines if groups else [lines[0], "  none"])


def _time(report: Report) -> str:
  time, chip = report.time, report.chip
  network = f"{report.network.bandwidth / 1e9:,.0f} GB/s, {report.network.hops} hops at most"
  lines = [
    "Least time of a step [ms]",
    f"{_row('compute', _ms(time.compute))}   at {report.peak / 1e12:,.0f} TFLOP/s",
    f"{_row('memory', _ms(time.memory))}   at {chip.memory_bandwidth / 1e9:,.0f} GB/s",
    f"{_row('interconnect', _ms(time.interconnect))}   at {network}",
  ]
  lines += ["", _heading("A step", "ms", "images/s", "a chip", "MFU")]
  for name, seconds in report.step_seconds.items():
    rate = report.images_per_second(seconds)
    lines.append(
      _row(
        name,
        _ms(seconds),
        f"{rate:,.0f}",
        f"{rate / report.chips:,.0f}",
        f"{report.utilisation(seconds):.1%}",
      )
    )
  return "\n".join(lines)


def _whole_run(report: Report) -> str:
  lines = [_heading(f"All {report.steps:,} steps", "hours", "chip-hours")]
  for name, seconds in report.step_seconds.items():
    chip_hours = report.chip_hours(seconds)
    lines.append(_row(name, f"{chip_hours / report.chips:,.2f}", f"{chip_hours:,.1f}"))
  return "\n".join(lines)


def _instructions(report: Report, top: int) -> str:
  """A table of those with the highest estimates."""
  costs, clock = report.program.costs, report.chip.clock
  if not costs or clock is None:
    return f"The compiler makes no estimates of instructions for a {report.chip.name}."
  total = sum(cost.cycles for cost in costs)
  shown = costs[:top]
  lines = [
    f"The {len(shown)} highest estimates of {len(costs)} instructions, of {_ms(total / clock)} ms"
  ]
  lines += [f"{'ms':>7}  {'share':>5}  {'':8}  {'layer: operation':48}  output"]
  for cost in shown:
    place = f"{cost.layer}: {cost.operation}" if cost.layer else cost.operation
    lines.append(
      f"{_ms(cost.cycles / clock):>7}  {cost.cycles / total:>5.1%}  {cost.direction:8}  "
      f"{place:48}  {cost.output}"
    )
  together = sum(cost.cycles for cost in shown)
  lines.append(f"{_ms(together / clock):>7}  {together / total:>5.1%}  {'together':8}")
  return "\n".join(lines)


def _ms(seconds: float) -> str:
  return f"{seconds * 1e3:,.2f}"


def as_json(report: Report, top: int = 0) -> dict[str, Any]:
  """The report's numbers; sizes in bytes, times in seconds.

  Args:
    report: what was compiled.
    top: how many of the instructions to list.
  """
  time, memory = report.time, report.program.memory
  estimated = report.estimated_seconds
  if estimated is not None:
    estimated += time.interconnect
  return {
    "config": report.config.to_dict(),
    "chip": report.chip.name,
    "shape": list(report.shape),
    "chips": report.chips,
    "memory": {
      **report.state,
      **dataclasses.asdict(memory),
      "total": memory.total,
      "of_chip": report.chip.memory_bytes,
    },
    "flops": report.program.flops,
    "flops_per_image": report.program.flops / report.rows,
    "memory_traffic": report.program.memory_traffic,
    "cycles": report.program.cycles,
    "instructions": [dataclasses.asdict(cost) for cost in report.program.costs[:top]],
    "collectives": [
      {
        **dataclasses.asdict(collective),
        "seconds": collective_seconds(collective, report.network),
      }
      for collective in report.program.collectives
    ],
    "seconds": {
      "compute": time.compute,
      "memory": time.memory,
      "interconnect": time.interconnect,
      "overlapped": time.overlapped,
      "in_turn": time.in_turn,
      "estimated": estimated,
    },
    "steps": report.steps,
    "chip_hours": {
      "overlapped": report.chip_hours(time.overlapped),
      "in_turn": report.chip_hours(time.in_turn),
      "estimated": None if estimated is None else report.chip_hours(estimated),
    },
    "bound": time.bound,
    "images_per_second": report.images_per_second(time.overlapped),
    "mfu": report.utilisation(time.overlapped),
  }
