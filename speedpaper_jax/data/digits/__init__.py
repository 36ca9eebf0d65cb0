"""The embedded data set: 1,797 handwritten digits of 8×8 pixels. README.md has licence and source.

`digits.csv.gz` holds one digit a line, 64 values 0..16 row by row and then the class, in the order
of the original file.
"""

import gzip
import importlib.resources
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speedpaper_jax.data.store import DataSet, store

DIGITS = DataSet(
  name="digits",
  version="1.0.0",
  image_shape=(8, 8, 1),
  num_classes=10,
  description=(
    "1,797 handwritten digits of 8x8 pixels, written by 13 people: the test set of the UCI data "
    "set Optical Recognition of Handwritten Digits, split anew. CC BY 4.0."
  ),
  homepage="https://doi.org/10.24432/C50P49",
  citation=(
    "@misc{optdigits,\n  author = {Alpaydin, E. and Kaynak, C.},\n"
    "  title = {Optical Recognition of Handwritten Digits},\n  year = {1998},\n"
    "  howpublished = {UCI Machine Learning Repository},\n  doi = {10.24432/C50P49}\n}"
  ),
)
# Within each class, in the original order, every fifth digit is held out: no randomness, and both
# splits have the classes in equal parts.
_TEST_EVERY = 5


def prepare(root: Path) -> None:
  """Writes the data set below TFDS's data directory `root`, where it is not there already."""
  if DIGITS.is_prepared(root):
    return
  pixels, labels = load()
  test = is_test(labels)
  class_names = {"label": [str(digit) for digit in range(10)]}
  splits = {
    "train": _examples(pixels[~test], labels[~test]),
    "test": _examples(pixels[test], labels[test]),
  }
  store(DIGITS, root, splits, class_names)


def load() -> tuple[np.ndarray, np.ndarray]:
  """Returns all digits in the original order.

  Returns:
    Pixels, uint8 `[1797, 8, 8]` in 0..16 with 0 as background; classes, uint8 `[1797]`.
  """
  resource = importlib.resources.files(__name__) / "digits.csv.gz"
  with resource.open("rb") as compressed, gzip.open(compressed, "rt", encoding="ascii") as lines:
    table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
  return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def is_test(labels: np.ndarray) -> np.ndarray:
  """Tells which digits are in the test split, given all classes `[N]` in the original order."""
  test = np.zeros(len(labels), bool)
  for digit in range(10):
    test[np.flatnonzero(labels == digit)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
  return test


def _examples(pixels: np.ndarray, labels: np.ndarray) -> Iterator[dict[str, object]]:
  # 0..16 over the whole range of uint8; dividing by 255 / 16 and rounding gives 0..16 back.
  scaled = np.round(pixels * (255 / 16)).astype(np.uint8)
  for image, label in zip(scaled, labels, strict=True):
    yield {"image": image[..., np.newaxis], "label": int(label)}
