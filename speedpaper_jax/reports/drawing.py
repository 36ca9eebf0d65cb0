"""Figures that look alike, each once for a light page and once for a dark one."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
from cycler import cycler
from matplotlib.ticker import LogFormatter

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import fonts
from speedpaper_jax.storage.run_directory import RunDirectory

# Each has a contrast of 3 or more to both grounds, and any two are distinct with normal sight,
# protanopia and deuteranopia; the fewer of them from the beginning, the better.
COLORS = (
  "#2a78d6",  # blue
  "#d9591c",  # orange
  "#b446a3",  # magenta
  "#869675",  # sage
  "#0d7079",  # teal
  "#8c5743",  # brown
  "#a487c6",  # lavender
  "#603aff",  # violet
)

DOTS_PER_INCH = 200


@dataclasses.dataclass(frozen=True)
class Ground:
  """The colours that differ between a light page and a dark one; page.html has them too."""

  suffix: str
  background: str
  text: str
  grid: str


LIGHT = Ground("", background="#ffffff", text="#24292f", grid="#d4d8dd")
DARK = Ground(".dark", background="#16181c", text="#d5d9de", grid="#3a3f47")


def draw(
  directory: RunDirectory,
  name: str,
  paint: Callable[[matplotlib.figure.Figure], None],
  width: float = 7.0,
  height: float = 4.2,
) -> None:
  """Saves a figure as `plots/NAME.png` and `plots/NAME.dark.png`.

  Args:
    directory: of the run.
    name: of the figure.
    paint: draws on an empty figure, as with `figure.subplots()`; called for each ground. Colours
      that it does not set are the ground's own; lines and bars take theirs from `COLORS`.
    width: inches. Text is legible at half the size.
    height: inches.

  Raises:
    UserError: the directory cannot be written.
  """
  for ground in (LIGHT, DARK):
    path = directory.plots / f"{name}{ground.suffix}.png"
    with _style(ground):
      figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
      paint(figure)
      fonts.make_legible(figure)
      try:
        directory.plots.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DOTS_PER_INCH)
      except OSError as error:
        raise UserError(f"The figure {path} cannot be written: {error.strerror}.") from error


def set_log_scale(axes: matplotlib.axes.Axes) -> None:
  """Makes the y-axis logarithmic, with numbers such as 0.03 instead of powers of ten."""
  axes.set_yscale("log")
  axes.yaxis.set_major_formatter(_PlainNumbers())
  axes.yaxis.set_minor_formatter(_PlainNumbers())


class _PlainNumbers(LogFormatter):
  """Labels the ticks that matplotlib labels."""

  def __call__(self, value: float, position: int | None = None) -> str:
    return f"{value:g}" if super().__call__(value, position) else ""


@contextlib.contextmanager
def _style(ground: Ground) -> Iterator[None]:
  style: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": ground.text,
    "axes.facecolor": ground.background,
    "axes.grid": True,
    "axes.labelcolor": ground.text,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.facecolor": ground.background,
    "font.size": 12,
    "grid.color": ground.grid,
    "grid.linewidth": 0.7,
    "legend.edgecolor": "none",
    "legend.fontsize": 11,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "savefig.facecolor": ground.background,
    "text.color": ground.text,
    "xtick.color": ground.text,
    "xtick.labelsize": 11,
    "ytick.color": ground.text,
    "ytick.labelsize": 11,
  }
  with matplotlib.rc_context():
    matplotlib.rcdefaults()  # whatever the user's own settings say
    with matplotlib.rc_context(style):
      yield
