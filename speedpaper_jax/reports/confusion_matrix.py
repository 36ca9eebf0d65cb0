"""The confusion matrix as a picture."""

from collections.abc import Sequence

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from speedpaper_jax.reports import drawing
from speedpaper_jax.reports.labels import width
from speedpaper_jax.storage.run_directory import RunDirectory

NAME = "confusion"
CAPTION = (
  "The confusion matrix of the held-out images: a row for each class, a column for each that they "
  "are taken for, and in the cells the number of images. What is right lies on the diagonal. The "
  "colour is the fraction of the row's images."
)
MOST_CLASSES = 30  # that are legible

_POINTS_PER_INCH = 72
_WIDTH_OF_A_LETTER = 0.64  # of a digit, and of most letters, in parts of the font's size
_LARGEST_FONT = 11
_BAR = 0.15  # height of the colour bar, in inches
_WHITE_FROM = 0.85  # of a row; from there on white is more legible than the page's own colour


def draw(directory: RunDirectory, counts: np.ndarray, labels: Sequence[str]) -> None:
  """Draws `NAME`.

  Args:
    directory: of the run.
    counts: of images by class and by what they are taken for, [classes, classes].
    labels: of the classes, short.
  """
  cell = min(1.4, max(0.32, 6.5 / len(counts)))  # inches
  font = min(_LARGEST_FONT, 0.5 * _POINTS_PER_INCH * cell)
  longest = max(map(width, labels)) * _inches_of_a_letter(font)
  drawing.draw(
    directory,
    NAME,
    lambda figure: _paint(figure, counts, labels, cell, font, is_upright=longest > 0.95 * cell),
    width=len(counts) * cell + longest + 0.5,
    height=len(counts) * cell + (longest if longest > cell else 0.2) + 1.1,
  )


def _inches_of_a_letter(font: float) -> float:
  return _WIDTH_OF_A_LETTER * font / _POINTS_PER_INCH


def _paint(
  figure: matplotlib.figure.Figure,
  counts: np.ndarray,
  labels: Sequence[str],
  cell: float,
  font: float,
  is_upright: bool,
) -> None:
  axes = figure.subplots()
  colors = matplotlib.rcParams
  fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  mesh = axes.pcolormesh(
    fractions,
    vmin=0,
    vmax=1,
    cmap=LinearSegmentedColormap.from_list(
      "of a row", [colors["axes.facecolor"], drawing.COLORS[0]]
    ),
    edgecolors=colors["grid.color"],
    linewidth=0.5,
  )
  digits = len(str(counts.max()))
  size = min(_LARGEST_FONT, 0.85 * cell / (digits * _inches_of_a_letter(1)))
  for row, column in np.argwhere(counts):
    axes.text(
      column + 0.5,
      row + 0.5,
      str(counts[row, column]),
      fontsize=size,
      color="white" if fractions[row, column] >= _WHITE_FROM else colors["text.color"],
      horizontalalignment="center",
      verticalalignment="center_baseline",
    )
  middles = np.arange(len(counts)) + 0.5
  # Names of classes may hold any character.
  axes.set_xticks(
    middles, labels, parse_math=False, fontsize=font, rotation=90 if is_upright else 0
  )
  axes.set_yticks(middles, labels, parse_math=False, fontsize=font)
  axes.tick_params(length=0)
  axes.grid(False)
  axes.spines[:].set_visible(False)
  axes.invert_yaxis()  # the first class is at the top
  axes.set_xlabel("taken for")
  axes.set_ylabel("class")
  bar = figure.colorbar(mesh, location="top", aspect=len(counts) * cell / _BAR, pad=0.02)
  bar.ax.tick_params(labelsize=10)
  bar.set_label("fraction of the row", fontsize=11)
