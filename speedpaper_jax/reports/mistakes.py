"""The worst mistakes as pictures."""

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from matplotlib.transforms import Bbox, TransformedBbox

from speedpaper_jax.reports import drawing
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


def draw(directory: RunDirectory, pixels: np.ndarray, titles: Sequence[str]) -> None:
  """Draws `NAME`.

  Args:
    directory: of the run.
    pixels: uint8, [images, size, size, 3].
    titles: of the images, of three lines; what is wider than the picture is cut off.
  """
  columns = min(len(pixels), _COLUMNS)
  rows = -(-len(pixels) // columns)
  drawing.draw(
    directory,
    NAME,
    lambda figure: _paint(figure, pixels, titles),
    width=columns * (_SIZE + _GAP) + _GAP,
    height=rows * (_TITLE + _SIZE + _GAP),
  )


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
