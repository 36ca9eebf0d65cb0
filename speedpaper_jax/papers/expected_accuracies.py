"""Published accuracies while training on ImageNet, against epochs, by name.

They are of one crop of the validation images. The papers' are read off their figures, GluonCV's are
what its logs print after each epoch (dmlc/web-data, gluoncv/logs/classification/imagenet).
"""

import dataclasses
from collections.abc import Callable, Mapping

from speedpaper_jax.papers import batch_norm, curves, residual_learning
from speedpaper_jax.papers.curves import Curve

_STEPS_OF_AN_EPOCH = 1_281_167 / 32  # of the Batch Normalization paper
_LEFT_OUT = "without some 1,700 doubtful images, which makes it about 0.3 % better than of all"


@dataclasses.dataclass(frozen=True)
class Expectation:
  """An expected accuracy.

  Attributes:
    curve: top-1 accuracy, a fraction, against epochs.
    source: where it was published, in words.
  """

  curve: Curve
  source: str


def _of_figure_2(network: str) -> Curve:
  curve = batch_norm.figure_2()[network]
  return Curve(curve.positions / _STEPS_OF_AN_EPOCH, curve.values)


def _of_figures_21_and_23(network: str) -> Curve:
  curve = residual_learning.top1_errors()[network]
  return Curve(curve.positions, 1 - curve.values / 100)


def _of_gluoncv(network: str) -> Curve:
  return curves.by_network("gluoncv_curves/top1.csv")[network]


# Name → how its curve is read, of which network there, and the source.
_ALL: Mapping[str, tuple[Callable[[str], Curve], str, str]] = {
  **{
    f"paper/{name}": (_of_figure_2, row.name, f"{row.name} in Figure 2 of arXiv 1502.03167")
    for name, row in batch_norm.FIGURE_3.items()
  },
  **{
    f"paper/{name}": (
      _of_figures_21_and_23,
      name,
      f"Figure {figure} of arXiv 1602.07261, {_LEFT_OUT}",
    )
    for figure, pair in zip((21, 23), residual_learning.PAIRS, strict=True)
    for name in pair
  },
  **{
    f"gluoncv/{name}": (_of_gluoncv, name, "GluonCV's log of its training with mixup")
    for name in ("googlenet", "inception_v3")
  },
}
NAMES = tuple(_ALL)


def find(name: str) -> Expectation:
  """An expected accuracy by its name, out of `NAMES`."""
  read, network, source = _ALL[name]
  return Expectation(read(network), source)
