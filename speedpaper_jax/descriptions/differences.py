"""Two networks side by side."""

from collections.abc import Sequence
from typing import NamedTuple

from speedpaper_jax.descriptions.stages import Description, Stage


class Difference(NamedTuple):
  """A stage of two networks, or several together.

  Attributes:
    name: of the stage.
    parameters: number of trained values in the one and in the other.
    multiply_adds: of the one and of the other, for one image.
  """

  name: str
  parameters: tuple[int, int]
  multiply_adds: tuple[int, int]


def compare(one: Description, other: Description) -> list[Difference]:
  """Each stage that both networks have by the same name, all other stages, and the total.

  Stages without multiply-adds are left out: they have no parameters either.
  """
  stages, other_stages = _with_weights(one), _with_weights(other)
  shared = [name for name in stages if name in other_stages]
  return [
    *(_difference(name, [stages[name]], [other_stages[name]]) for name in shared),
    _difference(
      "other stages",
      [stage for name, stage in stages.items() if name not in shared],
      [stage for name, stage in other_stages.items() if name not in shared],
    ),
    _difference("total", one.stages, other.stages),
  ]


def _with_weights(description: Description) -> dict[str, Stage]:
  return {stage.name: stage for stage in description.stages if stage.multiply_adds}


def _difference(name: str, stages: Sequence[Stage], other_stages: Sequence[Stage]) -> Difference:
  return Difference(
    name,
    (
      sum(stage.parameters for stage in stages),
      sum(stage.parameters for stage in other_stages),
    ),
    (
      sum(stage.multiply_adds for stage in stages),
      sum(stage.multiply_adds for stage in other_stages),
    ),
  )
