"""All crops of an image as one picture, as an evaluation cuts them."""

import pathlib

import matplotlib.figure
import numpy as np

from speedpaper_jax.data.averaged_crops import AveragedCrops
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.square_crops import SquareCrops
from speedpaper_jax.files import figures

_SIDE = 0.62  # of a crop, in inches
_LEFT, _TOP, _BELOW = 1.0, 0.75, 0.04  # room for the words, and a margin, in inches
_OF_SQUARE = ("upper left", "upper right", "lower left", "lower right", "middle", "resized")
_OF_IMAGE = _OF_SQUARE[:-1]
_PLACES = {1: ("square",), 3: ("first", "central", "last")}


def write(
  path: pathlib.Path, image: bytes | np.ndarray, crop: EvaluationCrop, crops: AveragedCrops
) -> None:
  """Draws a row for each square and a column for each of its crops.

  Args:
    path: of the figure.
    image: encoded, or uint8 [H, W, C].
    crop: of one.
    crops: how many, and at which scales.

  Raises:
    decode.DecodeError: the image is damaged.
    UserError: the file cannot be written, or ten crops are all the same.
  """
  of_crop = crops.of(crop)
  if isinstance(of_crop, EvaluationCrop):
    rows, windows = of_crop(image)[np.newaxis, np.newaxis], ("the crop",)
    labels = [f"{crop.image_size} pixels"]
  else:
    cut = of_crop.windows.cut(of_crop(image))
    rows = cut.reshape(len(of_crop.windows.corners), -1, *cut.shape[1:])
    names = _OF_SQUARE if isinstance(of_crop, SquareCrops) else _OF_IMAGE
    windows = (*names, *(f"{name},\nmirrored" for name in names))
    labels = _labels(of_crop) if isinstance(of_crop, SquareCrops) else ["image"]
  pixels = np.clip(np.round(rows), 0, 255).astype(np.uint8)
  width, height = _LEFT + _SIDE * len(windows), _TOP + _SIDE * len(labels) + _BELOW
  figure = matplotlib.figure.Figure(figsize=(width, height), dpi=100)
  for row, label in enumerate(labels):
    for column, name in enumerate(windows):
      left, bottom = _LEFT + _SIDE * column, height - _TOP - _SIDE * (row + 1)
      place = (left / width, bottom / height, 0.95 * _SIDE / width, 0.95 * _SIDE / height)
      axes = figure.add_axes(place)
      axes.imshow(pixels[row, column])
      axes.set_xticks([])
      axes.set_yticks([])
      if row == 0:
        axes.set_title(name, fontsize=7, rotation=45, ha="left", va="bottom", x=0.1)
      if column == 0:
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
  figures.write(path, figure)


def _labels(crops: SquareCrops) -> list[str]:
  """Of each square its scale and its place."""
  squares = len(crops.windows.corners) // len(crops.sides)
  return [f"{side} pixels,\n{place}" for side in crops.sides for place in _PLACES[squares]]
