"""Distributions by layer and time: a panel for each layer, in it a ridge for each time."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.figure
import numpy as np

from speedpaper_jax.reports.networks import LABELS, NETWORK_COLORS

# A large share would leave nothing to see of the others.
HIGHEST_SHARE = 0.25

_BINS = 60
_HIGHEST_RIDGE = 0.9  # in distances of two base lines


def paint(
  figure: matplotlib.figure.FigureBase,
  values: Mapping[str, np.ndarray],
  *,
  times: Sequence[int],
  layers: Sequence[int],
  time: str,
  value: str,
) -> None:
  """Draws a row of panels for each network; all have the same axes.

  Args:
    figure: an empty one, or a part of one.
    values: for each network [times, layers, N]; what is not finite is left out.
    times: at which they were found.
    layers: their numbers.
    time: label of the vertical axis.
    value: label of the horizontal axis.
  """
  low, high = span(values.values())
  edges = np.linspace(low, high, _BINS + 1)
  panels = figure.subplots(len(values), len(layers), sharex=True, sharey=True, squeeze=False)
  baselines = -np.arange(len(times))
  for row, (network, of_network) in zip(panels, values.items(), strict=True):
    for place, axes in enumerate(row):
      for order, baseline in enumerate(baselines):
        heights = baseline + _HIGHEST_RIDGE * ridge(of_network[order, place], edges)
        color = NETWORK_COLORS[network]
        axes.stairs(heights, edges, baseline=baseline, fill=True, color=color, alpha=0.5)
        axes.stairs(heights, edges, baseline=None, color=color, linewidth=1)
      axes.set_yticks(baselines, list(map(str, times)))
      axes.set_ylim(baselines[-1] - 0.15, 1)
      axes.tick_params(left=False, labelsize=10)
      axes.spines["left"].set_visible(False)
    row[0].set_ylabel(f"{LABELS[network]}\n{time}")
  for axes, layer in zip(panels[0], layers, strict=True):
    axes.set_title(f"layer {layer}", fontsize=11)
  figure.supxlabel(value, fontsize=12)


def ridge(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
  """Heights [bins] from 0 to 1: roots of the shares of the values, of `HIGHEST_SHARE` at most.

  Values beyond the edges are in no bin.
  """
  shares = np.histogram(values, edges)[0] / values.size
  return np.sqrt(np.minimum(shares, HIGHEST_SHARE) / HIGHEST_SHARE)


def span(values: Iterable[np.ndarray]) -> tuple[float, float]:
  """From the 0.2nd to the 99.8th percentile of the array that reaches farther, and a little more.

  Values that are not finite do not count.
  """
  finite = [array[np.isfinite(array)] for array in values]
  ends = [np.percentile(array, (0.2, 99.8)) for array in finite if array.size]
  low = min((float(low) for low, _ in ends), default=0.0)
  high = max((float(high) for _, high in ends), default=0.0)
  margin = 0.03 * (high - low) or 0.5
  return low - margin, high + margin
