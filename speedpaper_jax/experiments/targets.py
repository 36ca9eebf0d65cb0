"""How many steps the arms of a comparison take to the best accuracy of one of them."""

from collections.abc import Sequence

from speedpaper_jax.experiments.arms import Arm

# A network that always names the most frequent class is at chance, though above 1/classes: so are
# odds of up to this times chance's, 15 % of 10 classes and 62 % of two.
_ODDS_AT_CHANCE = 1.6


def of(baseline: Arm, chance: float) -> list[float | None]:
  """The baseline's best accuracy by seed, None where it stayed at chance.

  Args:
    baseline: the arm.
    chance: 1/classes.
  """
  best = [curve.best_top1 for curve in baseline.by_seed]
  # Odds are p / (1 - p); multiplied out, since either may be 1.
  return [
    top1 if top1 * (1 - chance) > _ODDS_AT_CHANCE * chance * (1 - top1) else None for top1 in best
  ]


def steps_to(arm: Arm, targets: Sequence[float | None]) -> list[float | None]:
  """An arm's steps to the target of the same seed.

  Args:
    arm: trained with the seeds of the targets.
    targets: by seed, as of `of`.

  Returns:
    Steps by seed, None where the target was not reached or there is none.
  """
  return [
    None if target is None else curve.steps_to(target)
    for curve, target in zip(arm.by_seed, targets, strict=True)
  ]
