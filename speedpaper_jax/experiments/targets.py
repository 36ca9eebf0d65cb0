"""How many steps the arms of a comparison take to the best accuracy of one of them."""

from collections.abc import Sequence

from speedpaper_jax.experiments.arms import Arm

# A network that always names the most frequent class is at chance, though above 1/classes.
_AT_CHANCE = 1.5


def of(baseline: Arm, chance: float) -> list[float | None]:
  """The baseline's best accuracy by seed, None where it stayed at chance.

  Args:
    baseline: the arm.
    chance: 1/classes.
  """
  return [
    curve.best_top1 if curve.best_top1 > _AT_CHANCE * chance else None for curve in baseline.by_seed
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
