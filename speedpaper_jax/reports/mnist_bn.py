"""The report of section 4.1 of the Batch Normalization paper: sigmoids on MNIST."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from speedpaper_jax.files import rules
from speedpaper_jax.papers import batch_norm
from speedpaper_jax.papers.curves import Curve
from speedpaper_jax.reports import contents, covariate_shift_maps
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.networks import LABELS, NETWORK_COLORS, TWO_NETWORKS
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.quantities import percent
from speedpaper_jax.reports.step_axis import label_steps
from speedpaper_jax.storage.run_directory import RunDirectory

_EARLY = 4000  # steps: the first point of Figure 1(a)
_TABLE_STEPS = (_EARLY, 10_000, 20_000, 30_000, 40_000, 50_000)
_PLATEAU = 0.2  # accuracy; chance is 0.1
_NOTHING = "–"
_SCALE = ", whose axis of steps has no numbers and is taken to end at 50,000"

_CONFIG: rules.Rules = {
  "data": {"name": rules.TEXT},
  "hidden_layers": rules.ROWS,
  "hidden_units": rules.ROWS,
  "batch_size": rules.ROWS,
  "initial_std": rules.ABOVE_ZERO,
  "optimizer": {"name": rules.TEXT, "learning_rate": rules.ABOVE_ZERO},
}


def present(directory: RunDirectory) -> Page:
  """Draws Figure 1, and what γ and β are for, and gives the accuracies.

  Raises:
    UserError: a file of the run is missing or damaged.
  """
  config = contents.read_config(directory, _CONFIG)
  directory.read("summary.json")
  axes = {f"{network}/percentiles": "TPU" for network in LABELS}
  axes |= covariate_shift_maps.axes(LABELS)
  arrays = contents.read_arrays(directory, axes, P=3, L=config["hidden_layers"])
  contents.check_steps(directory, arrays["step"])
  is_of_the_paper = config["data"]["name"] == "mnist"
  data = "MNIST" if is_of_the_paper else config["data"]["name"]
  accuracies = batch_norm.figure_1a() if is_of_the_paper else {}
  percentiles = batch_norm.figure_1bc() if is_of_the_paper else {}
  draw(directory, "accuracy", lambda figure: _paint_accuracy(figure, arrays, accuracies), width=9)
  draw(
    directory,
    "percentiles",
    lambda figure: _paint_percentiles(figure, arrays, percentiles),
    width=9,
    height=5.8 if percentiles else 3.8,
  )
  draw(directory, "affine", lambda figure: _paint_affine(figure, arrays), width=9)
  layers = [f"layer {number + 1}" for number in range(config["hidden_layers"])]
  covariate_shift_maps.draw(directory, arrays, tuple(LABELS), dict(enumerate(layers)), height=5.2)
  beside = ", the paper's dotted" if is_of_the_paper else ""
  return Page(
    title=f"Sigmoids on {data} with and without batch normalization",
    result=result(arrays),
    sections=[
      Section(
        "Accuracy",
        paragraphs=_the_paper(config, is_of_the_paper),
        parts=[
          Figure(
            "accuracy",
            f"Accuracy on held-out digits against steps{beside}. On the left from 70 % on, as in "
            "Figure 1(a); on the right the first steps from 0 on.",
          ),
          _accuracies(arrays, accuracies),
        ],
      ),
      Section(
        "The input of a typical sigmoid",
        paragraphs=[
          "Of the last hidden layer's units the typical one is that whose spread, the 85th less "
          "the 15th percentile of its input, averaged over the steps, is the median of all units'."
        ],
        parts=[
          Figure(
            "percentiles",
            "The {15, 50, 85}th percentiles of the input of a typical sigmoid of the last hidden "
            f"layer against steps, as in Figure 1(b, c){_SCALE if is_of_the_paper else ''}.",
          )
        ],
      ),
      Section(
        "What γ and β are for",
        paragraphs=[
          "An input of mean 0 and variance 1 lies mostly within [-1, 1], where a sigmoid is "
          "nearly linear. Section 3 of the paper therefore gives each activation a scale γ and a "
          "shift β that are learned. The third network has γ = 1 and β = 0 for good."
        ],
        parts=[
          Figure(
            "affine",
            "Left: spread of the inputs of the last hidden layer's sigmoids, the 85th less the "
            "15th percentile, against steps: median of the units, and as a band their 10th to "
            "90th percentile. Right: the sigmoid, its tangent in 0, and below it what a typical "
            "unit's input covers after the last step, from the 15th to the 85th percentile with "
            "the median as a dot.",
          )
        ],
      ),
      Section(
        "Internal covariate shift",
        paragraphs=[covariate_shift_maps.BY_CONSTRUCTION],
        parts=[Figure(covariate_shift_maps.NAME, covariate_shift_maps.CAPTION)],
      ),
    ],
  )


def result(arrays: Mapping[str, np.ndarray]) -> str:
  """The accuracies at the end and early, and how long one network learned nothing."""
  steps = arrays["step"]
  without, with_batch_norm = (arrays[f"{network}/top1"] for network in TWO_NETWORKS)
  accuracy = (
    f"The accuracy on held-out digits is {percent(without[-1])} without batch normalization and "
    f"{percent(with_batch_norm[-1])} with it after {steps[-1]:,} steps"
  )
  early = _measured_by(steps, _EARLY)
  if early is not None and steps[early] < steps[-1]:
    accuracy += (
      f", and {percent(without[early])} and {percent(with_batch_norm[early])} after "
      f"{steps[early]:,}"
    )
  end = plateau_end(steps, without)
  level = f"above {100 * _PLATEAU:.0f} %"
  if end is None:
    plateau = f"Without it the accuracy does not stay {level}."
  else:
    plateau = f"Without it the accuracy stays {level} only from step {end:,} on."
  return f"{accuracy}. {plateau}"


def plateau_end(steps: np.ndarray, top1: np.ndarray) -> int | None:
  """The measured step from which on the accuracy stays above 20 %; None if there is none."""
  at_chance = np.flatnonzero(top1 <= _PLATEAU)
  first_above = at_chance[-1] + 1 if at_chance.size else 0
  return int(steps[first_above]) if first_above < len(steps) else None


def typical_unit(percentiles: np.ndarray) -> int:
  """The unit whose spread is the median one; [T, 3, units] → its number."""
  spread = np.mean(percentiles[:, -1] - percentiles[:, 0], 0)
  return int(np.argsort(spread)[len(spread) // 2])


def _percentiles(arrays: Mapping[str, np.ndarray], network: str) -> np.ndarray:
  """[T, 3, units], NaN where a network has diverged."""
  percentiles = arrays[f"{network}/percentiles"]
  return np.where(np.isfinite(percentiles), percentiles, np.nan)


def _measured_by(steps: np.ndarray, step: int) -> int | None:
  """The row of the last measurement up to a step."""
  row = int(np.searchsorted(steps, step, side="right")) - 1
  return row if row >= 0 else None


def _the_paper(config: Mapping[str, Any], is_of_the_paper: bool) -> list[str]:
  optimizer = config["optimizer"]
  settings = (
    f"{config['hidden_layers']} hidden layers of {config['hidden_units']} sigmoids learn binary "
    f"images in mini-batches of {config['batch_size']}. The paper says that the initial weights "
    f"are small, but neither their deviation nor the optimiser and its rate; here these are "
    f"{config['initial_std']:g}, `{optimizer['name']}` and {optimizer['learning_rate']:g}."
  )
  if is_of_the_paper:
    return [settings]
  return [settings, f"The paper has no numbers on {config['data']['name']} to compare with."]


def _accuracies(arrays: Mapping[str, np.ndarray], published: Mapping[str, Curve]) -> Table:
  steps = arrays["step"]
  last = int(steps[-1])
  rows = []
  for step in sorted({*(step for step in _TABLE_STEPS if step < last), last}):
    row = _measured_by(steps, step)
    if row is None:
      continue
    ours = [f"{100 * arrays[f'{network}/top1'][row]:.2f}" for network in LABELS]
    theirs = [
      _NOTHING if (top1 := curve.at(step)) is None else f"{100 * top1:.1f}"
      for curve in published.values()
    ]
    rows.append((f"{step:,}", *ours, *theirs))
  return Table(
    (
      "step",
      *(label.removeprefix("with BN, ") for label in LABELS.values()),
      *(f"paper, {network}" for network in published),
    ),
    rows,
    "Accuracy on held-out digits in percent"
    + (", and that of the paper, read off Figure 1(a)." if published else "."),
  )


def _paint_accuracy(
  figure: matplotlib.figure.Figure,
  arrays: Mapping[str, np.ndarray],
  published: Mapping[str, Curve],
) -> None:
  whole, beginning = figure.subplots(1, 2, width_ratios=(3, 2))
  steps = arrays["step"]
  for axes in (whole, beginning):
    for network in reversed(LABELS):  # the two networks of the paper lie above the third
      top1 = 100 * arrays[f"{network}/top1"]
      width = 1.8 if network in TWO_NETWORKS else 1
      axes.plot(steps, top1, color=NETWORK_COLORS[network], linewidth=width)
    for network, curve in published.items():
      color = NETWORK_COLORS[network]
      axes.plot(curve.positions, 100 * curve.values, ":", color=color, linewidth=2.2)
  whole.set_xlim(0, steps[-1])
  label_steps(whole)
  whole.set_ylim(70, 100)
  whole.set_ylabel("accuracy [%]")
  label_steps(beginning, most_ticks=4)
  beginning.set_ylim(0, 100)
  end = plateau_end(steps, arrays["without/top1"]) or steps[-1]
  beginning.set_xlim(0, min(max(2 * end, 0.1 * steps[-1]), steps[-1]))
  handles = [
    Line2D([], [], color=NETWORK_COLORS[network], label=label) for network, label in LABELS.items()
  ]
  if published:
    text = matplotlib.rcParams["text.color"]
    handles.append(Line2D([], [], color=text, linestyle=":", linewidth=2.2, label="paper"))
  figure.legend(handles=handles, loc="outside upper center", ncols=4)


def _paint_percentiles(
  figure: matplotlib.figure.Figure,
  arrays: Mapping[str, np.ndarray],
  published: Mapping[str, Mapping[int, Curve]],
) -> None:
  panels = figure.subplots(2 if published else 1, 2, sharex=True, sharey=True, squeeze=False)
  steps = arrays["step"]
  for axes, network in zip(panels[0], TWO_NETWORKS, strict=True):
    percentiles = _percentiles(arrays, network)
    unit = percentiles[:, :, typical_unit(percentiles)]
    _plot_percentiles(axes, [steps] * 3, list(unit.T), NETWORK_COLORS[network])
    axes.set_title(LABELS[network])
  for axes, network in zip(panels[-1], published, strict=False):
    curves = published[network].values()
    _plot_percentiles(
      axes,
      [curve.positions for curve in curves],
      [curve.values for curve in curves],
      NETWORK_COLORS[network],
    )
  for row, whose in zip(panels, ("this run", "paper"), strict=False):
    row[0].set_ylabel(f"{whose}\ninput of a sigmoid" if published else "input of a sigmoid")
  for axes in panels[-1]:
    axes.set_xlim(0, steps[-1])
    label_steps(axes)
  text = matplotlib.rcParams["text.color"]
  figure.legend(
    handles=[
      Line2D([], [], color=text, label="median"),
      Patch(color=text, alpha=0.3, linewidth=0, label="15th to 85th percentile"),
    ],
    loc="outside upper center",
    ncols=2,
  )


def _plot_percentiles(
  axes: matplotlib.axes.Axes,
  steps: Sequence[np.ndarray],
  percentiles: Sequence[np.ndarray],
  color: str,
) -> None:
  """Three curves; the paper's have each its own steps."""
  low, middle, high = percentiles
  axes.fill_between(
    steps[0], low, np.interp(steps[0], steps[2], high), color=color, alpha=0.3, linewidth=0
  )
  axes.plot(steps[1], middle, color=color)


def _paint_affine(figure: matplotlib.figure.Figure, arrays: Mapping[str, np.ndarray]) -> None:
  left, right = figure.subplots(1, 2)
  steps = arrays["step"]
  x = np.linspace(-4, 4, 161)
  text = matplotlib.rcParams["text.color"]
  right.plot(x, 1 / (1 + np.exp(-x)), color=text)
  right.plot(x, 0.5 + x / 4, "--", color=text, linewidth=1)
  for place, (network, label) in enumerate(LABELS.items()):
    color = NETWORK_COLORS[network]
    percentiles = _percentiles(arrays, network)
    spread = percentiles[:, -1] - percentiles[:, 0]
    low, middle, high = np.percentile(spread, (10, 50, 90), axis=1)
    left.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    left.plot(steps, middle, color=color, label=label)
    covered = percentiles[-1, :, typical_unit(percentiles)]
    row = -0.12 * (place + 1)
    right.plot(covered[[0, -1]], [row, row], color=color, linewidth=5, solid_capstyle="butt")
    right.plot(covered[1], row, "o", color=text, markersize=6)
  left.set_ylim(0)
  left.set_ylabel("spread of a sigmoid's input")
  left.set_xlim(0, steps[-1])
  label_steps(left)
  right.set_ylim(-0.45, 1.05)
  right.set_yticks([0, 0.5, 1])
  right.set_xlabel("input")
  right.set_ylabel("sigmoid")
  figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
