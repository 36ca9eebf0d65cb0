"""Numbers as reports write them."""


def duration(seconds: float) -> str:
  """`15 s`, `2.7 min` or `31.5 h`."""
  if seconds < 60:
    return f"{seconds:.0f} s"
  if seconds < 3600:
    return f"{seconds / 60:.1f} min"
  return f"{seconds / 3600:.1f} h"


def percent(fraction: float) -> str:
  """`98.87 %`."""
  return f"{100 * fraction:.2f} %"
