"""How well each class is recognised."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from speedpaper_jax.inference import ensembles
from speedpaper_jax.inference.right_classes import RightClasses

COLUMNS = ("class", "name", "images", "top1_error", "top5_error")


def as_csv(log_probabilities: np.ndarray, right: RightClasses, class_names: Sequence[str]) -> str:
  """A table of the classes that there are images of, in their order; errors are fractions.

  Args:
    log_probabilities: [N, classes].
    right: the classes that are right for each image; of several it counts for the first.
    class_names: one a class, or none.
  """
  ranks, labels = ensembles.ranks(log_probabilities, right), right.first
  written = io.StringIO()
  writer = csv.writer(written, lineterminator="\n")
  writer.writerow(COLUMNS)
  for number in np.unique(labels):
    of_class = ranks[labels == number]
    errors = (float(np.mean(of_class >= place)) for place in (1, 5))
    name = class_names[number] if class_names else ""
    writer.writerow([number, name, len(of_class), *(f"{error:.6g}" for error in errors)])
  return written.getvalue()
