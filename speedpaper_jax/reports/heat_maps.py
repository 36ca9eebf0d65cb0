"""Numbers by layer and step: a column of maps for each quantity, a row for each network."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.figure
import numpy as np
from matplotlib.colors import LogNorm, Normalize

from speedpaper_jax.reports.networks import LABELS
from speedpaper_jax.reports.step_axis import label_steps

_DECADES = 5  # of a logarithmic scale at most; what is less has the colour of its lower end


@dataclasses.dataclass(frozen=True)
class Quantity:
  """What one column shows.

  Attributes:
    label: of its colour bar, with the unit.
    values: for each network [steps, layers].
    scale: of its colours, of `signed_scale` or `logarithmic_scale`.
  """

  label: str
  values: Mapping[str, np.ndarray]
  scale: Normalize


def signed_scale(arrays: Iterable[np.ndarray]) -> Normalize:
  """Symmetrical about 0, from all the arrays."""
  highest = np.max(np.abs(_finite(arrays)), initial=0) or 1.0
  return Normalize(-highest, highest)


def logarithmic_scale(arrays: Iterable[np.ndarray]) -> LogNorm:
  """Of five decades at most, to the highest number of all the arrays."""
  finite = _finite(arrays)
  positive = finite[finite > 0]
  if not positive.size:
    return LogNorm(0.1, 1)
  highest = positive.max()
  lowest = min(max(positive.min(), highest / 10**_DECADES), highest / 1.01)
  return LogNorm(lowest, highest, clip=True)  # for zeros, which have no place on the scale


def paint(
  figure: matplotlib.figure.Figure,
  quantities: Sequence[Quantity],
  steps: np.ndarray,
  labels: Mapping[int, str],
) -> None:
  """Draws the maps; those of one quantity have the same colours.

  Args:
    figure: empty.
    quantities: all of the same networks.
    steps: of training, rising, [steps].
    labels: for each number of a layer, from 0, that has a label, the label.
  """
  networks = list(quantities[0].values)
  panels = figure.subplots(len(networks), len(quantities), sharex=True, sharey=True, squeeze=False)
  edges = _edges(steps)
  for column, quantity in zip(panels.T, quantities, strict=True):
    for axes, network in zip(column, networks, strict=True):
      values = quantity.values[network]
      mesh = axes.pcolormesh(
        edges,
        np.arange(values.shape[1] + 1) - 0.5,
        np.ma.masked_invalid(values).T,
        norm=quantity.scale,
        cmap="viridis" if isinstance(quantity.scale, LogNorm) else "RdBu_r",
      )
      axes.grid(False)
    lowest = quantity.scale.vmin
    reaches_below = any(np.any(values < lowest) for values in quantity.values.values())
    bar = figure.colorbar(
      mesh,
      ax=column,
      location="top",
      extend="min" if reaches_below else "neither",
      aspect=14,
      pad=0.02,
    )
    bar.ax.tick_params(labelsize=10)
    bar.set_label(quantity.label, fontsize=11)
  for axes, network in zip(panels[:, 0], networks, strict=True):
    axes.set_ylabel(LABELS[network].replace(", ", "\n", 1))
    axes.set_yticks(list(labels), list(labels.values()))
  panels[0, 0].invert_yaxis()  # the first layer is at the top
  for axes in panels[-1]:
    label_steps(axes, most_ticks=4)


def _finite(arrays: Iterable[np.ndarray]) -> np.ndarray:
  """All numbers that are finite, in one axis."""
  return np.concatenate([array[np.isfinite(array)] for array in arrays])


def _edges(steps: np.ndarray) -> np.ndarray:
  """Of the cells around the steps, [steps + 1]."""
  middles = (steps[1:] + steps[:-1]) / 2
  first = steps[0] - (middles[0] - steps[0] if len(middles) else 0.5)
  last = steps[-1] + (steps[-1] - middles[-1] if len(middles) else 0.5)
  return np.concatenate([[first], middles, [last]])
