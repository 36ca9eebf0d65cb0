"""Numbers as reports write them."""

import math


def duration(seconds: float) -> str:
  """`15 s`, `2.7 min` or `31.5 h`."""
  if seconds < 60:
    return f"{seconds:.0f} s"
  if seconds < 3600:
    return f"{seconds / 60:.1f} min"
  return f"{seconds / 3600:.1f} h"


def nats(loss: float | None) -> str:
  """`0.0712`; None stands for what is not finite."""
  return f"{loss:.4f}" if loss is not None and math.isfinite(loss) else "not finite"


def percent(fraction: float) -> str:
  """`98.87 %`."""
  return f"{100 * fraction:.2f} %"
