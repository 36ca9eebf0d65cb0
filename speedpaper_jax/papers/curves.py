"""Curves of figures and of logs, as text files in this package hold them."""

import csv
import dataclasses
import functools
import importlib.resources

import numpy as np


@dataclasses.dataclass(frozen=True)
class Curve:
  """A line of a figure.

  Attributes:
    positions: in training, in steps or epochs, rising, float [N].
    values: at these positions, float [N].
  """

  positions: np.ndarray
  values: np.ndarray

  def at(self, position: float) -> float | None:
    """The value at a position, between two corners on the straight line.

    Up to 2 % beyond an end it is the value there, since lines are drawn from evaluation to
    evaluation and not from 0 to the last step; farther away it is None.
    """
    if not self.positions[0] / 1.02 <= position <= self.positions[-1] * 1.02:
      return None
    return float(np.interp(position, self.positions, self.values))


@functools.cache
def read(path: str) -> dict[tuple[str, ...], Curve]:
  """The curves of a file with a header, whose last two columns are positions and values.

  Args:
    path: in this package, with slashes.

  Returns:
    Of each curve, named by all columns but the last two, the last two.
  """
  resource = importlib.resources.files(__package__).joinpath(path)
  corners: dict[tuple[str, ...], list[tuple[float, float]]] = {}
  _, *rows = csv.reader(resource.read_text(encoding="utf-8").splitlines())
  for *key, position, value in rows:
    corners.setdefault(tuple(key), []).append((float(position), float(value)))
  return {key: Curve(*map(np.array, zip(*points, strict=True))) for key, points in corners.items()}


def by_network(path: str) -> dict[str, Curve]:
  """The same of a file with three columns, the first of which is the network."""
  return {network: curve for (network,), curve in read(path).items()}
