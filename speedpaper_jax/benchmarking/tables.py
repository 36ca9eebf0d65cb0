"""What was measured, in lines of a table as they come, and as JSON."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from speedpaper_jax.benchmarking.turns import Measured
from speedpaper_jax.benchmarking.work import Work

_COLUMNS = (
  ("network", 20),
  ("work", 9),
  ("implementation", 16),
  ("images/s", 9),
  ("turns", 15),
  ("ours / theirs", 20),
  ("first step [s]", 14),
  ("cached [s]", 10),
  ("memory [MiB]", 12),
  ("MFU", 6),
  ("roofline", 8),
)
NOTES = """\
images/s is the median of the turns, beside the slowest and the fastest. ours / theirs is the median
of the ratios turn by turn, and their range. First step: seconds from the start of the process to
the end of its first step, with nothing compiled before, and with what the first start has kept.
Memory is what was in use at most while it worked, an accelerator's or the process's. MFU: the
network's own operations, two for each multiply-add of the forward pass and three times as many in
training, over time and peak. Roofline: the least time, of these operations at the peak or of the
bytes that XLA counts at the memory's bandwidth, over the time."""


def heading() -> str:
  """The table's first two lines."""
  return f"{_line([name for name, _ in _COLUMNS])}\n{_line(['-' * width for _, width in _COLUMNS])}"


def lines(row: Mapping[str, Any]) -> str:
  """A line for each side of a row, see `as_row`."""
  work, ours = row["work"], row["sides"][0]
  found = []
  for side in row["sides"]:
    rates = side["rates"]
    ratio = ""
    if side is not ours:
      ratio = f"{side['ratio']:.2f} ({min(side['ratios']):.2f}–{max(side['ratios']):.2f})"
    found.append(
      _line(
        [
          work["model"] if side is ours else "",
          work["mode"] if side is ours else "",
          side["side"],
          _rate(side["rate"]),
          f"{_rate(min(rates))}–{_rate(max(rates))}",
          ratio,
          f"{sum(side['cold'].values()):.1f}",
          f"{sum(side['cached'].values()):.1f}",
          f"{side['memory'] / 2**20:,.0f}",
          f"{side['mfu']:.1%}",
          f"{side['roofline']:.0%}" if side["roofline"] is not None else "",
        ]
      )
    )
  return "\n".join(found)


def as_row(
  work: Work, measured: Sequence[Measured], multiply_adds: int, peaks: Mapping[str, Any]
) -> dict[str, Any]:
  """All numbers of one work.

  Args:
    work: what was done.
    measured: of the sides; the first is ours.
    multiply_adds: of the network's forward pass, for one image.
    peaks: of the device, see `peaks.Peaks`.
  """
  flops = 2 * multiply_adds * (3 if work.mode == "training" else 1)
  ours = measured[0]
  return {
    "work": dataclasses.asdict(work),
    "flops_per_image": flops,
    "sides": [
      {
        "side": side.side,
        "rate": side.rate,
        "rates": list(side.rates),
        "cold": dict(side.cold),
        "cached": dict(side.cached),
        "memory": side.memory,
        "mfu": flops * side.rate / peaks["flops"],
        "roofline": _roofline(work, side, flops, peaks),
        "xla_flops_per_image": _per_image(side.facts["flops"], work),
        "xla_bytes_per_image": _per_image(side.facts["bytes_accessed"], work),
        "device_kind": side.facts["device_kind"],
        "parameters": sum(side.facts["parameter_sizes"]),
        **({} if side is ours else _ratios(ours, side)),
      }
      for side in measured
    ],
  }


def _ratios(ours: Measured, theirs: Measured) -> dict[str, Any]:
  ratios = [one / other for one, other in zip(ours.rates, theirs.rates, strict=True)]
  return {"ratio": statistics.median(ratios), "ratios": ratios}


def _roofline(work: Work, side: Measured, flops: float, peaks: Mapping[str, Any]) -> float | None:
  moved = _per_image(side.facts["bytes_accessed"], work)
  if moved is None:
    return None
  return max(flops / peaks["flops"], moved / peaks["bandwidth"]) * side.rate


def _per_image(number: float | None, work: Work) -> float | None:
  return None if number is None else number / work.batch_size


def _rate(rate: float) -> str:
  return f"{rate:.3g}" if rate < 1000 else f"{rate:,.0f}"


def _line(cells: Sequence[str]) -> str:
  padded = (
    f"{cell:<{width}}" if index < 3 else f"{cell:>{width}}"
    for index, (cell, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=True))
  )
  return f"| {' | '.join(padded)} |"
