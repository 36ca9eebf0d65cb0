"""Length and intervals of a training run, in steps."""

import dataclasses

import ml_collections

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.errors import UserError

_MOST_EXAMPLES = 2**32 - 1  # they are counted in uint32


@dataclasses.dataclass(frozen=True)
class Interval:
  """Steps between what comes again and again.

  Attributes:
    steps: how many; 0 for never.
    offset: added to the number of a step, which may have had other batches before it.
  """

  steps: int
  offset: int = 0

  @classmethod
  def of(cls, durations: Durations, text: str, field: str) -> "Interval":
    """Reads a field of a config."""
    return cls(durations.whole_steps(text, field), round(durations.offset_of(text, field)))

  def due(self, step: int) -> bool:
    """Whether what has this interval comes after this step."""
    return self.steps > 0 and (step + self.offset) % self.steps == 0


@dataclasses.dataclass(frozen=True)
class Plan:
  """Length and intervals of a run.

  Attributes:
    total_steps: the last step of the run.
    log_every: between lines.
    eval_every: between evaluations.
    checkpoint_every: between checkpoints.
  """

  total_steps: int
  log_every: Interval
  eval_every: Interval
  checkpoint_every: Interval

  @classmethod
  def of(cls, config: ml_collections.ConfigDict, durations: Durations) -> "Plan":
    """Reads a training config.

    Raises:
      UserError: a field is no duration, or the run is too long to be counted, or has no length.
    """
    return cls(
      total_steps=total_steps(config, durations),
      log_every=Interval.of(durations, config.log_every, "config.log_every"),
      eval_every=Interval.of(durations, config.eval_every, "config.eval_every"),
      checkpoint_every=Interval.of(durations, config.checkpoint_every, "config.checkpoint_every"),
    )


def total_steps(config: ml_collections.ConfigDict, durations: Durations) -> int:
  """The last step of the run.

  Raises:
    UserError: the run is too long to be counted, or has no length.
  """
  if not durations.whole_steps(config.duration, "config.duration"):
    raise UserError("config.duration is zero; set a length of training.")
  last = durations.last_step(config.duration, "config.duration")
  examples = durations.first_examples + (last - durations.first_step) * durations.batch_size
  if examples > _MOST_EXAMPLES:
    raise UserError(
      f"config.duration='{config.duration}' is {examples:,} examples; at most {_MOST_EXAMPLES:,} "
      f"are counted."
    )
  return last
