"""The accuracy that the arms of a comparison are to reach, and how soon they do."""

import pytest

from speedpaper_jax.experiments import targets
from speedpaper_jax.experiments.arms import Arm
from speedpaper_jax.storage.learning_curves import LearningCurve


def arm(*by_seed):
  """Of accuracies every ten steps."""
  curves = [
    LearningCurve([10 * (number + 1) for number in range(len(top1))], top1, [], None, None)
    for top1 in by_seed
  ]
  return Arm(1.0, {1.0: curves[0]}, curves)


def test_are_the_best_accuracies():
  assert targets.of(arm([0.2, 0.8, 0.6], [0.4]), chance=0.1) == [0.8, 0.4]


@pytest.mark.parametrize(
  ("chance", "top1", "expected"),
  [
    (0.1, 0.1, None),
    (0.1, 0.15, None),
    (0.1, 0.16, 0.16),
    (0.5, 0.61, None),
    (0.5, 0.64, 0.64),
    (0.5, 1.0, 1.0),
    (1.0, 1.0, None),
  ],
)
def test_there_is_none_near_chance(chance, top1, expected):
  """Where classes are not equally frequent, chance is a little above 1/classes."""
  assert targets.of(arm([top1]), chance) == [expected]


def test_steps_are_to_the_target_of_the_same_seed():
  found = targets.steps_to(arm([0.2, 0.8], [0.2, 0.8], [0.5], [0.5]), [0.8, 0.5, 0.6, None])
  assert found == [20, pytest.approx(15), None, None]
