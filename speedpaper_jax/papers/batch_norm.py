"""The curves of the Batch Normalization paper (arXiv 1502.03167v3), read off its figures.

The figures are vector graphics; `batch_norm_curves/` has the corners of their lines, in units of
the axes.
"""

import csv
import dataclasses
import functools
import importlib.resources
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Curve:
  """A line of a figure.

  Attributes:
    steps: of training, rising, int [N].
    values: at these steps, float [N].
  """

  steps: np.ndarray
  values: np.ndarray

  def at(self, step: float) -> float | None:
    """The value at a step, between two corners on the straight line.

    Up to 2 % beyond an end it is the value there, since lines are drawn from evaluation to
    evaluation and not from 0 to the last step; farther away it is None.
    """
    if not self.steps[0] / 1.02 <= step <= self.steps[-1] * 1.02:
      return None
    return float(np.interp(step, self.steps, self.values))


class Figure3Row(NamedTuple):
  """A row of the table in Figure 3."""

  name: str
  steps_to_target: float | None  # to 72.2 %; None for never
  max_top1: float


FIGURE_3 = {
  "inception": Figure3Row("Inception", 31.0e6, 0.722),
  "bn_baseline": Figure3Row("BN-Baseline", 13.3e6, 0.727),
  "bn_x5": Figure3Row("BN-x5", 2.1e6, 0.730),
  "bn_x30": Figure3Row("BN-x30", 2.7e6, 0.748),
  "bn_x5_sigmoid": Figure3Row("BN-x5-Sigmoid", None, 0.698),
}


def speedups() -> dict[str, float]:
  """How many times fewer steps than Inception's 31.0 million those take that get to 72.2 %."""
  steps = {name: row.steps_to_target for name, row in FIGURE_3.items() if row.steps_to_target}
  return {name: steps["inception"] / taken for name, taken in steps.items()}


def figure_1a() -> dict[str, Curve]:
  """Test accuracy on MNIST, as a fraction, `without` batch normalization and `with` it.

  The curves begin where they enter the figure, at 0.7 and more.
  """
  return {network: curve for (network,), curve in _curves("figure_1a.csv").items()}


def figure_1bc() -> dict[str, dict[int, Curve]]:
  """The {15, 50, 85}th percentiles of a sigmoid's input, `without` (b) and `with` (c).

  Returns:
    For each network the curves by percentile. The figures' axis of steps has no numbers; it is
    taken to be that of Figure 1(a), 0 to 50,000.
  """
  curves = _curves("figure_1bc.csv")
  networks = dict.fromkeys(network for network, _ in curves)
  return {
    network: {int(percentile): curve for (of, percentile), curve in curves.items() if of == network}
    for network in networks
  }


def figure_2() -> dict[str, Curve]:
  """Validation accuracy on ImageNet, as a fraction, of each network of section 4.2.

  The curves begin where they enter the figure, at 0.4 and more.
  """
  return {network: curve for (network,), curve in _curves("figure_2.csv").items()}


@functools.cache
def _curves(name: str) -> dict[tuple[str, ...], Curve]:
  """Of each curve, named by all columns but the last two, the last two."""
  resource = importlib.resources.files(__package__) / "batch_norm_curves" / name
  corners: dict[tuple[str, ...], list[tuple[int, float]]] = {}
  _, *rows = csv.reader(resource.read_text(encoding="utf-8").splitlines())
  for *key, step, value in rows:
    corners.setdefault(tuple(key), []).append((int(step), float(value)))
  return {key: Curve(*map(np.array, zip(*points, strict=True))) for key, points in corners.items()}
