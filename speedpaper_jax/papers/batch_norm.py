"""The curves of the Batch Normalization paper (arXiv 1502.03167v3), read off its figures; tables.

The figures are vector graphics; `batch_norm_curves/` has the corners of their lines, in units of
the axes.
"""

from typing import NamedTuple

from speedpaper_jax.papers import curves
from speedpaper_jax.papers.curves import Curve


class Figure3Row(NamedTuple):
  """A row of the table in Figure 3."""

  name: str
  steps_to_target: float | None  # to 72.2 %; None for never
  max_top1: float


FIGURE_3 = {
  "inception": Figure3Row("Inception", 31.0e6, 0.722),
  "bn_baseline": Figure3Row("BN-Baseline", 13.3e6, 0.727),
  "bn_x5": Figure3Row("BN-x5", 2.1e6, 0.730),
  "bn_x30": Figure3Row("BN-x30", 2.7e6, 0.748),
  "bn_x5_sigmoid": Figure3Row("BN-x5-Sigmoid", None, 0.698),
}


class Figure4Row(NamedTuple):
  """A row of the table in Figure 4: errors on ImageNet in percent, as they are printed."""

  crops: int
  models: int
  top1: float
  top5: float


FIGURE_4 = {  # the paper's own networks, on the 50,000 validation images
  "BN-Inception single crop": Figure4Row(1, 1, 25.2, 7.82),
  "BN-Inception multicrop": Figure4Row(144, 1, 21.99, 5.82),
  "BN-Inception ensemble": Figure4Row(144, 6, 20.1, 4.9),
}
# Of the ensemble on the 100,000 test images, by the test server.
FIGURE_4_TEST_TOP5 = 4.82


def speedups() -> dict[str, float]:
  """How many times fewer steps than Inception's 31.0 million those take that get to 72.2 %."""
  steps = {name: row.steps_to_target for name, row in FIGURE_3.items() if row.steps_to_target}
  return {name: steps["inception"] / taken for name, taken in steps.items()}


def figure_1a() -> dict[str, Curve]:
  """Test accuracy on MNIST, as a fraction, `without` batch normalization and `with` it.

  The curves begin where they enter the figure, at 0.7 and more.
  """
  return curves.by_network("batch_norm_curves/figure_1a.csv")


def figure_1bc() -> dict[str, dict[int, Curve]]:
  """The {15, 50, 85}th percentiles of a sigmoid's input, `without` (b) and `with` (c).

  Returns:
    For each network the curves by percentile. The figures' axis of steps has no numbers; it is
    taken to be that of Figure 1(a), 0 to 50,000.
  """
  found = curves.read("batch_norm_curves/figure_1bc.csv")
  networks = dict.fromkeys(network for network, _ in found)
  return {
    network: {int(percentile): curve for (of, percentile), curve in found.items() if of == network}
    for network in networks
  }


def figure_2() -> dict[str, Curve]:
  """Validation accuracy on ImageNet, as a fraction, of each network of section 4.2.

  The curves begin where they enter the figure, at 0.4 and more.
  """
  return curves.by_network("batch_norm_curves/figure_2.csv")
