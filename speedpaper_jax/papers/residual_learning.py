"""Figures 21 to 26 and the tables of the paper on Inception-v4 and residual connections.

arXiv 1602.07261v2. The figures are vector graphics; `residual_learning_curves/` has the mean of
each line over each epoch, in percent.
"""

from typing import NamedTuple

import numpy as np

from speedpaper_jax.papers import curves
from speedpaper_jax.papers.curves import Curve

# The networks that the paper compares, without residual connections and with them, at about the
# same cost (section 3.2).
PAIRS = (
  ("inception_v3", "inception_resnet_v1"),
  ("inception_v4", "inception_resnet_v2"),
)
FIGURES = {PAIRS[0]: 21, PAIRS[1]: 23}  # of their top-1 errors
# Section 5: the curves and Table 2 leave out some 1,700 of the 50,000 validation images, by which
# their errors are smaller by about 0.3 % (top-1) and 0.15 % (top-5). Tables 3 to 5 have all.


class Errors(NamedTuple):
  """Errors on ImageNet's validation images in percent, as they are printed."""

  top1: float
  top5: float


TABLE_2 = {  # one crop, without the images that are left out
  "bn_inception": Errors(25.2, 7.8),
  "inception_v3": Errors(21.2, 5.6),
  "inception_resnet_v1": Errors(21.3, 5.5),
  "inception_v4": Errors(20.0, 5.0),
  "inception_resnet_v2": Errors(19.9, 4.9),
}
TABLE_3 = {  # 12 crops, all images
  "inception_v3": Errors(19.8, 4.6),
  "inception_resnet_v1": Errors(19.8, 4.6),
  "inception_v4": Errors(18.7, 4.2),
  "inception_resnet_v2": Errors(18.7, 4.1),
}
TABLE_4 = {  # 144 crops, all images
  "inception_v3": Errors(18.9, 4.3),
  "inception_resnet_v1": Errors(18.8, 4.3),
  "inception_v4": Errors(17.7, 3.8),
  "inception_resnet_v2": Errors(17.8, 3.7),
}
# Table 5: 144 crops, all validation images. On the test images the second has 3.08 % (top-5).
TABLE_5 = {
  "four inception_v3": Errors(17.3, 3.6),
  "inception_v4 and three inception_resnet_v2": Errors(16.5, 3.1),
}
TABLE_5_TEST_TOP5 = 3.08


def top1_errors() -> dict[str, Curve]:
  """Figures 21 and 23: top-1 error in percent against epochs, of each network.

  One crop of the validation images. The curves begin where they enter the figure.
  """
  return curves.by_network("residual_learning_curves/figures_21_and_23.csv")


def top5_errors() -> dict[str, Curve]:
  """Figures 22 and 24, the same of top-5."""
  return curves.by_network("residual_learning_curves/figures_22_and_24.csv")


def common_error(pair: tuple[str, str], margin: float) -> float:
  """An error that both networks of a pair reach in Figures 21 and 23, in percent.

  Args:
    pair: their names.
    margin: percent, added to the higher of their lowest errors.
  """
  return margin + max(float(top1_errors()[name].values.min()) for name in pair)


def epochs_to(network: str, error: float) -> float:
  """The epoch in which a network's curve of Figures 21 and 23 is at an error for the first time.

  Args:
    network: its name.
    error: percent, which the curve reaches.
  """
  curve = top1_errors()[network]
  return float(curve.positions[np.argmax(curve.values <= error)])
