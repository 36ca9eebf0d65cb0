"""A figure of a network's stages, alone or beside another's, and of what changed between them."""

import difflib
import pathlib
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speedpaper_jax.descriptions.changes import Changes
from speedpaper_jax.descriptions.stages import Description
from speedpaper_jax.files import figures
from speedpaper_jax.reports.drawing import COLORS

_BLUE, _ORANGE, _MORE, _LESS = COLORS[0], COLORS[1], COLORS[2], COLORS[4]
_ROW = 0.32  # inches
_QUANTITIES = {  # label, and decimals of what is written beside a bar
  "multiply_adds": ("multiply-adds for one image [10⁶]", 1),
  "parameters": ("parameters [10⁶]", 3),
}


def write(
  path: pathlib.Path,
  network: Description,
  other: Description | None = None,
  way: Changes | None = None,
) -> None:
  """Draws multiply-adds and parameters by stage, and below them by change.

  Args:
    path: of the figure.
    network: in orange.
    other: in blue; stages of the same name share a row.
    way: from GoogLeNet to BN-Inception, where these are the two.

  Raises:
    UserError: the file cannot be written.
  """
  drawn = {_ORANGE: network} if other is None else {_BLUE: other, _ORANGE: network}
  names = _rows(list(drawn.values()))
  height = _ROW * len(names) + 1.6
  if way is None:
    figure = upper = Figure((11, height), dpi=200, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
  else:
    steps_height = _ROW * (len(way.steps) + 2) + 1.1
    figure = Figure((11, height + steps_height), dpi=200, layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, steps_height)).flat
    *axes, notes = upper.subplots(1, 3, sharey=True)
    _draw_notes(notes, names)
    _draw_steps(lower.subplots(1, 2, sharey=True), way)
    lower.suptitle("Each change on top of those above it", fontsize=12)
  _draw_stages(axes, names, drawn)
  handles, labels = axes[0].get_legend_handles_labels()
  upper.legend(handles, labels, loc="outside upper left", fontsize=12, frameon=False)
  figures.write(path, figure)


def _rows(networks: list[Description]) -> list[str]:
  """Names of the stages with weights, in an order that keeps each network's own."""
  first, *others = (
    [stage.name for stage in network.stages if stage.multiply_adds] for network in networks
  )
  for second in others:
    merged: list[str] = []
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    for _, start, end, other_start, other_end in matcher.get_opcodes():
      merged += [*first[start:end], *second[other_start:other_end]]
    first = list(dict.fromkeys(merged))
  return first


def _draw_stages(axes: Iterable[Axes], names: list[str], drawn: dict[str, Description]) -> None:
  rows = np.arange(len(names))
  thickness = 0.8 / len(drawn)
  for axis, (quantity, (label, _)) in zip(axes, _QUANTITIES.items(), strict=True):
    for place, (color, network) in enumerate(drawn.items()):
      counts = {stage.name: getattr(stage, quantity) for stage in network.stages}
      axis.barh(
        rows + thickness * (place - (len(drawn) - 1) / 2),
        [counts.get(name, 0) / 1e6 for name in names],
        thickness,
        color=color,
        label=f"{network.name}: {_total(network)}",
      )
    _set_up(axis, names, label)


def _total(network: Description) -> str:
  return (
    f"{network.multiply_adds / 1e9:.3f}·10⁹ multiply-adds, "
    f"{network.parameters / 1e6:.2f}·10⁶ parameters"
  )


def _set_up(axis: Axes, rows: list[str], label: str) -> None:
  axis.set_yticks(np.arange(len(rows)), rows)
  axis.set_ylim(len(rows) - 0.4, -0.6)  # from the top to the bottom
  axis.set_xlabel(label, fontsize=12)
  axis.grid(axis="x", alpha=0.4)
  axis.set_axisbelow(True)
  axis.spines[["top", "right"]].set_visible(False)
  axis.tick_params(labelsize=11)


def _draw_notes(axis: Axes, names: list[str]) -> None:
  """The five changes, beside the stages that they change."""
  axis.set_axis_off()
  axis.set_xlim(0, 1)
  row = {name.removeprefix("inception_"): place for place, name in enumerate(names)}
  axis.plot([0.03, 0.03], [row["3a"] - 0.4, row["5b"] + 0.4], color="0.6", linewidth=1.5)
  for stage, number, note in (
    ("conv1", 5, "separable, as GoogLeNet's is"),
    ("3a", 1, "two 3×3 for each 5×5, everywhere"),
    ("3b", 3, "average pools, but max in 3c, 4e, 5b"),
    ("3c", 2, "a third module at 28×28"),
    ("4a", 4, "no pool before it: stride 2 in 3c"),
    ("5a", 4, "no pool before it: stride 2 in 4e"),
  ):
    _draw_number(axis, 0.1, row[stage], number)
    axis.text(0.16, row[stage], note, va="center", fontsize=11.5)


def _draw_number(axis: Axes, x: float, y: float, number: int) -> None:
  circle = {"boxstyle": "circle,pad=0.22", "facecolor": "white", "edgecolor": "0.3"}
  axis.text(x, y, str(number), ha="center", va="center", fontsize=10.5, bbox=circle)


def _draw_steps(axes: Iterable[Axes], way: Changes) -> None:
  """Each change as a bar from where the one before it ends; and what it costs if made last."""
  names = ["GoogLeNet", *(_numbered(step.number, step.name) for step in way.steps), "BN-Inception"]
  for axis, (quantity, (label, decimals)) in zip(axes, _QUANTITIES.items(), strict=True):
    begin, end = (getattr(size, quantity) / 1e6 for size in (way.googlenet, way.bn_inception))
    axis.barh([0, len(names) - 1], [begin, end], 0.7, color=[_BLUE, _ORANGE])
    _write(axis, begin, 0, f"{begin:,.{decimals}f}")
    _write(axis, end, len(names) - 1, f"{end:,.{decimals}f}")
    right = axis.get_yaxis_transform()  # x from 0 to 1
    axis.text(1, 0, "if made last", ha="right", va="center", fontsize=11, transform=right)
    highest = end
    for row, step in enumerate(way.steps, start=1):
      before, after = (getattr(size, quantity) / 1e6 for size in (step.before, step.after))
      highest = max(highest, after)
      axis.barh(row, after - before, 0.7, left=before, color=_MORE if after > before else _LESS)
      axis.plot([after, after], [row - 0.35, row + 1.35], color="0.5", linewidth=0.8)
      growth = f" ({after / before - 1:+.1%})" if after != before else ""
      _write(axis, max(before, after), row, _signed(after - before, decimals) + growth)
      if step.without is not None:
        last = _signed(end - getattr(step.without, quantity) / 1e6, decimals)
        axis.text(1, row, last, ha="right", va="center", fontsize=11, transform=right)
    _set_up(axis, names, label)
    axis.set_xlim(0, 2 * highest)
    axis.set_xticks([tick for tick in axis.get_xticks() if tick <= 1.2 * highest])


def _write(axis: Axes, x: float, row: int, text: str) -> None:
  axis.text(x, row, f" {text}", va="center", fontsize=11)


def _signed(number: float, decimals: int) -> str:
  return f"{number:+.{decimals}f}" if number else "0"


def _numbered(number: int | None, name: str) -> str:
  return name if number is None else f"{number}  {name}"
