"""Published accuracies against epochs, beside single readings of the figures and logs."""

import numpy as np
import pytest

from speedpaper_jax.papers import expected_accuracies
from speedpaper_jax.papers.expected_accuracies import NAMES

# Percent. GluonCV's logs print these; those of figures are read off.
READINGS = {
  "gluoncv/inception_v3": {1: 4.6, 2: 15.9, 3: 28.3, 5: 34.6, 10: 50.7, 50: 57.8, 200: 78.0},
  "gluoncv/googlenet": {1: 4.7, 2: 16.8, 3: 28.7, 5: 35.7, 10: 42.3, 50: 52.9, 200: 72.8},
  # 1, 2 and 5 million steps of 32 images, 40,036 to an epoch.
  "paper/bn_x30": {24.98: 66.4, 49.96: 70.4, 124.9: 74.6},
  "paper/inception": {249.8: 68.4},
}
# Of figures whose values scatter from epoch to epoch.
SMOOTHED = {
  "paper/inception_v4": {30: 100 - 29.4, 60: 100 - 24.6, 140: 100 - 20.1},
  "paper/inception_resnet_v1": {30: 100 - 26.1, 180: 100 - 21.4},
}


@pytest.mark.parametrize("name", READINGS)
def test_readings(name):
  curve = expected_accuracies.find(name).curve
  for epoch, accuracy in READINGS[name].items():
    assert 100 * curve.at(epoch) == pytest.approx(accuracy, abs=0.2)


@pytest.mark.parametrize("name", SMOOTHED)
def test_means_over_six_epochs(name):
  curve = expected_accuracies.find(name).curve
  for epoch, accuracy in SMOOTHED[name].items():
    around = [curve.at(epoch + offset) for offset in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)]
    assert 100 * np.mean(around) == pytest.approx(accuracy, abs=0.12)


@pytest.mark.parametrize("name", NAMES)
def test_epochs_rise_and_accuracies_are_fractions(name):
  found = expected_accuracies.find(name)
  assert np.all(np.diff(found.curve.positions) > 0)
  assert np.all((found.curve.values > 0) & (found.curve.values < 1))
  assert found.source


def test_what_the_figures_leave_out_is_told():
  assert "1,700 doubtful images" in expected_accuracies.find("paper/inception_v4").source
  assert expected_accuracies.find("paper/bn_x5").source == "BN-x5 in Figure 2 of arXiv 1502.03167"
