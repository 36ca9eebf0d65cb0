"""What may be changed of a run that goes on, and what of its state goes over into another form.

docs/resuming.md shows the table to users.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from speedpaper_jax.errors import UserError

# Field → its values before and now.
Changes = Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Rule:
  """What a change of some fields of the "train" experiment's config does to a run that goes on.

  Attributes:
    fields: dotted names.
    answer: whether it goes on, with a warning or without, or is refused.
    consequence: what follows from it, or why it is refused.
  """

  fields: Sequence[str]
  answer: Literal["goes on", "goes on, with a warning", "refused"]
  consequence: str


RULES = (
  Rule(
    (
      "checkpoint_every",
      "checkpoints_to_keep",
      "data.dir",
      "eval_batch_size",
      "eval_every",
      "evaluate_training_images",
      "keep_best",
      "log_every",
    ),
    "goes on",
    "what is trained is the same",
  ),
  Rule(
    ("duration",),
    "goes on, with a warning",
    "the run ends earlier or later, and a cosine is another one from here on",
  ),
  Rule(
    (
      "optimizer.learning_rate",
      "optimizer.base_batch_size",
      "optimizer.schedule.name",
      "optimizer.schedule.factor",
      "optimizer.schedule.interval",
      "optimizer.schedule.staircase",
      "optimizer.schedule.boundaries",
      "optimizer.schedule.warmup",
    ),
    "goes on, with a warning",
    "the learning rate is that of the new schedule, at the place where the run is",
  ),
  Rule(
    ("batch_size",),
    "goes on, with a warning",
    "the run goes on where it is in the data: lengths in epochs and examples count examples, "
    "lengths in steps count steps",
  ),
  Rule(
    ("optimizer.l2", "optimizer.clip_norm"),
    "goes on, with a warning",
    "the new value holds from here on",
  ),
  Rule(
    ("optimizer.momentum",),
    "goes on, with a warning",
    "the optimiser keeps its velocity; from 0 on it begins at zero, and at 0 it is dropped",
  ),
  Rule(
    ("optimizer.rmsprop_decay", "optimizer.rmsprop_epsilon"),
    "goes on, with a warning",
    "the optimiser keeps its mean squares",
  ),
  Rule(
    ("average_decay",),
    "goes on, with a warning",
    "from 0 on the average begins with the parameters as they are; 0 is refused, since what was "
    "evaluated is the average",
  ),
  Rule(
    ("seed",),
    "goes on, with a warning",
    "order of the images, augmentation and dropout are others, so that some images of this epoch "
    "come twice",
  ),
  Rule(
    (
      "data.augmentation.crop",
      "data.augmentation.shift",
      "data.augmentation.area_range",
      "data.augmentation.flip",
      "data.augmentation.photometric",
      "label_smoothing",
      "aux_weight",
      "model.dropout_rate",
    ),
    "goes on, with a warning",
    "training losses before and after are not to be compared",
  ),
  Rule(
    (
      "accumulation_steps",
      "batch_norm.decay",
      "batch_norm.epsilon",
      "batch_norm.statistics",
      "batch_norm.unbiased_running_variance",
      "batch_norm.virtual_batch_size",
      "parallel",
    ),
    "goes on, with a warning",
    "batch normalization takes or keeps its statistics in another way",
  ),
  Rule(
    ("model.dtype",),
    "goes on, with a warning",
    "parameters and statistics stay in float32, and activations are rounded in another way",
  ),
  Rule(
    ("data.image_size",),
    "goes on, with a warning",
    "a network whose weights do not depend on it sees images of another size; another is refused",
  ),
  Rule(
    (
      "batch_norm.inference",
      "batch_norm.population_batches",
      "data.eval_central_fraction",
      "data.eval_interpolation",
      "data.eval_resize",
      "data.eval_split",
    ),
    "goes on, with a warning",
    "evaluations before and after are not to be compared",
  ),
  Rule(
    ("experiment",),
    "refused",
    "a run is of one experiment",
  ),
  Rule(
    ("init_from",),
    "refused",
    "the run has begun, with other weights",
  ),
  Rule(
    (
      "batch_norm.enabled",
      "model.activation",
      "model.aux_heads",
      "model.dialect",
      "model.initial_scale",
      "model.local_response_norm",
      "model.name",
      "model.residual_scales",
    ),
    "refused",
    "the weights are those of another network",
  ),
  Rule(
    ("data.name", "data.train_split"),
    "refused",
    "the run's place is one in other images",
  ),
  Rule(
    ("optimizer.name",),
    "refused",
    "the optimiser's state is that of another one",
  ),
)
_BY_FIELD = {field: rule for rule in RULES for field in rule.fields}


def check(path: Any, changes: Changes) -> None:
  """Raises a UserError if a run may not go on with the changes.

  Args:
    path: of the run's directory.
    changes: of its config; fields of other experiments may be changed.
  """
  for field, (before, now) in changes.items():
    rule = _BY_FIELD.get(field)
    if rule and (rule.answer == "refused" or (field == "average_decay" and before and not now)):
      raise UserError(
        f"'{path}' holds a run with another config.{field}; {rule.consequence}. Choose another "
        f"--workdir, where config.init_from can name this one, or the config that is saved here "
        f"in config.json."
      )


def warnings(changes: Changes) -> Iterator[str]:
  """A sentence for each change that makes a difference to what is trained or evaluated."""
  for field, (before, now) in changes.items():
    rule = _BY_FIELD.get(field)
    if rule and rule.answer != "goes on":
      yield (
        f"continuing with another config.{field}, {_show(now)} in place of {_show(before)}: "
        f"{rule.consequence}."
      )


def in_effect(changes: Changes, are_steps_left: bool) -> list[str]:
  """The changed fields whose new values describe the run.

  Args:
    changes: of its config.
    are_steps_left: if not, nothing is trained with the new values.
  """
  return [
    field
    for field in changes
    if are_steps_left or field not in _BY_FIELD or _BY_FIELD[field].answer == "goes on"
  ]


def _show(value: Any) -> str:
  return repr(value) if isinstance(value, str) else str(value)


def sources(saved: Collection[str], wanted: Collection[str]) -> dict[str, str | None]:
  """Where each leaf of a state comes from that goes on in another form.

  L2 and clipping, which have no state, shift the optimiser's place in Optax's chain. A velocity
  may begin at zero, and an average of the parameters with the parameters themselves.

  Args:
    saved: names of leaves as `checkpoint.digests` has them.
    wanted: the same of the new state.

  Returns:
    Of each wanted leaf the name of the saved one, or None for zeros. One of which there is none
    has a name that is not in `saved`.
  """
  places = {_without_place(name): name for name in saved}
  found: dict[str, str | None] = {}
  for name in wanted:
    source = places.get(_without_place(name), name)
    if source not in saved:
      if _is_velocity(name):
        found[name] = None
        continue
      source = source.removeprefix("average/")
    found[name] = source if source in saved else name
  return found


def may_be_dropped(name: str) -> bool:
  """Whether a run may go on without a leaf of its saved state."""
  return _is_velocity(name)


def _without_place(name: str) -> str:
  return re.sub(r"^opt_state/\d+/", "opt_state//", name)


def _is_velocity(name: str) -> bool:
  return re.match(r"opt_state/\d+/\d+/trace/", name) is not None
