"""The curves of Figures 21 to 24, against readings of six epochs and the paper's Table 2."""

import numpy as np
import pytest

from speedpaper_jax.papers import residual_learning as paper
from speedpaper_jax.papers.networks import NETWORKS

# Means over six epochs.
TOP1 = {
  "inception_v3": {40: 29.3, 80: 24.6, 120: 22.4, 180: 21.4},
  "inception_resnet_v1": {30: 26.1, 60: 23.1, 100: 21.6, 180: 21.4},
  "inception_v4": {30: 29.4, 60: 24.6, 100: 21.3, 140: 20.1},
  "inception_resnet_v2": {30: 27.5, 60: 23.6, 100: 20.8, 140: 19.8},
}
TOP5 = {
  "inception_v3": {40: 9.8, 80: 7.1, 120: 6.03, 180: 5.74},
  "inception_resnet_v1": {30: 8.0, 60: 6.5, 100: 5.79, 180: 5.66},
  "inception_v4": {30: 9.8, 60: 7.1, 100: 5.47, 140: 4.95},
  "inception_resnet_v2": {30: 8.7, 60: 6.6, 100: 5.28, 140: 4.90},
}


def mean(curve, epoch):
  """Over six epochs, as far as the curve goes."""
  return np.mean([curve.at(epoch + offset) for offset in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)])


@pytest.mark.parametrize("network", TOP1)
def test_top1(network):
  curve = paper.top1_errors()[network]
  for epoch, error in TOP1[network].items():
    assert mean(curve, epoch) == pytest.approx(error, abs=0.12)


@pytest.mark.parametrize("network", TOP5)
def test_top5(network):
  curve = paper.top5_errors()[network]
  for epoch, error in TOP5[network].items():
    assert mean(curve, epoch) == pytest.approx(error, abs=0.08)


@pytest.mark.parametrize("network", TOP1)
def test_the_curves_end_at_table_2(network):
  for curves, printed in (
    (paper.top1_errors(), paper.TABLE_2[network].top1),
    (paper.top5_errors(), paper.TABLE_2[network].top5),
  ):
    assert np.mean(curves[network].values[-5:]) == pytest.approx(printed, abs=0.2)
    assert np.all(np.diff(curves[network].positions) > 0)


def test_the_residual_network_of_a_pair_is_ahead_until_late():
  """Section 5: the residual networks train faster."""
  curves = paper.top1_errors()
  for without, residual in paper.PAIRS:
    for epoch in range(30, 150, 5):
      assert mean(curves[residual], epoch) < mean(curves[without], epoch)


def test_table_2_is_the_accuracy_of_the_networks():
  for name, errors in paper.TABLE_2.items():
    if name != "bn_inception":  # whose own paper is quoted there
      (published,) = NETWORKS[name].published
      assert float(published.top1) == pytest.approx(100 - errors.top1)
      assert float(published.top5) == pytest.approx(100 - errors.top5)


class TestEpochsToACommonError:
  def test_half_a_point_above_inception_v3_s_lowest_error(self):
    pair = ("inception_v3", "inception_resnet_v1")
    error = paper.common_error(pair, 0.5)
    assert error == pytest.approx(21.8, abs=0.15)
    assert [paper.epochs_to(name, error) for name in pair] == pytest.approx([141, 91], abs=6)

  def test_of_the_larger_pair(self):
    """Read off Figure 23: to 20.5 %, and to 20.1 %."""
    pair = ("inception_v4", "inception_resnet_v2")
    assert [paper.epochs_to(name, 20.5) for name in pair] == pytest.approx([118, 108], abs=3)
    assert [paper.epochs_to(name, 20.1) for name in pair] == pytest.approx([134, 118], abs=6)
    assert paper.common_error(pair, 0.0) == pytest.approx(19.9, abs=0.1)
