"""A figure of images beside the classes that a network sees in them."""

import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np

from speedpaper_jax.data import decode
from speedpaper_jax.errors import printable
from speedpaper_jax.files import figures
from speedpaper_jax.inference.prediction import Candidate

MAX_IMAGES = 16

_SHOWN_PIXELS = 400  # of the long side


def write(path: pathlib.Path, answers: Sequence[tuple[pathlib.Path, Sequence[Candidate]]]) -> None:
  """Draws one row an image: the picture, and bars of its classes' probabilities.

  Args:
    path: of the figure.
    answers: at least one image with its classes; `MAX_IMAGES` at most are legible.

  Raises:
    UserError: the file cannot be written.
  """
  figure = matplotlib.figure.Figure(figsize=(8, 2.4 * len(answers)), dpi=120, layout="constrained")
  rows = figure.subplots(len(answers), 2, squeeze=False, width_ratios=(1, 2))
  for (picture, bars), (image, candidates) in zip(rows, answers, strict=True):
    picture.imshow(_thumbnail(image))
    picture.set_axis_off()
    positions = np.arange(len(candidates))
    drawn = bars.barh(positions, [100 * each.probability for each in candidates], color="#4c78a8")
    bars.bar_label(drawn, fmt="%.1f %%", padding=3)
    bars.set_yticks(positions, [printable(each.name) for each in candidates], parse_math=False)
    bars.set_xlim(0, 115)  # room for the labels
    bars.set_xticks([])
    bars.invert_yaxis()
    name = printable(image.name)
    bars.set_title(name, loc="left", fontsize="medium", parse_math=False)
    bars.spines[["top", "right", "bottom"]].set_visible(False)
  figures.write(path, figure)


def _thumbnail(path: pathlib.Path) -> np.ndarray:
  opened = decode.open_image(path.read_bytes())
  shrink = max(opened.size) / _SHOWN_PIXELS
  rgb = decode.to_rgb(opened, shrink)
  rgb.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS))
  return np.asarray(rgb)
