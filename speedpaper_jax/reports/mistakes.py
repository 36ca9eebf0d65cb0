"""The worst mistakes as pictures."""

import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from matplotlib.transforms import Bbox, TransformedBbox

from speedpaper_jax.files import figures, fonts
from speedpaper_jax.reports import drawing
from speedpaper_jax.reports.labels import shortened
from speedpaper_jax.storage.run_directory import RunDirectory

NAME = "mistakes"
CAPTION = (
  "The worst mistakes, as the network saw them: the wrong answers that it gave the highest "
  "probability. Above each image stands its class, after the arrow what it was taken for, and the "
  "probability of that."
)

_COLUMNS = 4
_SIZE = 1.6  # of a picture, in inches; larger ones make the page heavy
_GAP = 0.1  # inches, around all
_TITLE = 0.55  # height, in inches
_FONT = 9
_LONGEST_LABEL = 20  # columns


def draw(directory: RunDirectory, pixels: np.ndarray, titles: Sequence[str]) -> None:
  """Draws `NAME`.

  Args:
    directory: of the run.
    pixels: uint8, [images, size, size, 3].
    titles: of the images, of three lines; what is wider than the picture is cut off.
  """
  width, height = _size(len(pixels))
  drawing.draw(directory, NAME, lambda figure: _paint(figure, pixels, titles), width, height)


def title(own: str, taken: str, probability: str) -> str:
  """What stands above a picture: its class, what it is taken for, and the probability of that."""
  own, taken = (shortened(name, _LONGEST_LABEL) for name in fonts.as_drawn([own, taken]))
  return f"{own}\n→ {taken}\n{probability}"


def write(path: pathlib.Path, pixels: np.ndarray, titles: Sequence[str]) -> None:
  """Writes them as a figure of their own.

  Args:
    path: of the figure.
    pixels: see `draw`.
    titles: the same.

  Raises:
    UserError: the file cannot be written.
  """
  figure = matplotlib.figure.Figure(figsize=_size(len(pixels)), dpi=drawing.DOTS_PER_INCH)
  _paint(figure, pixels, titles)
  figures.write(path, figure)


def _size(count: int) -> tuple[float, float]:
  """Width and height of the figure of so many images, in inches."""
  columns = min(count, _COLUMNS)
  rows = -(-count // columns)
  return columns * (_SIZE + _GAP) + _GAP, rows * (_TITLE + _SIZE + _GAP)


def _paint(figure: matplotlib.figure.Figure, pixels: np.ndarray, titles: Sequence[str]) -> None:
  figure.set_layout_engine("none")  # constrained layout leaves too little room for such titles
  width, height = figure.get_size_inches()
  for number, (image, text) in enumerate(zip(pixels, titles, strict=True)):
    row, column = divmod(number, _COLUMNS)
    left = _GAP + column * (_SIZE + _GAP)
    bottom = height - (row + 1) * (_TITLE + _SIZE + _GAP) + _GAP
    axes = figure.add_axes((left / width, bottom / height, _SIZE / width, _SIZE / height))
    axes.set_axis_off()
    axes.imshow(image)
    title = axes.set_title(text, fontsize=_FONT, pad=4, parse_math=False)  # names may hold "$"
    above = Bbox.from_extents(0, 0, 1 + 0.5 * _GAP / _SIZE, 3)
    title.set_clip_on(True)
    title.set_clip_box(TransformedBbox(above, axes.transAxes))
