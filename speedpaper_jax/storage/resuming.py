"""What may be changed of a run that goes on, and what of its state goes over into another form.

Of each field its `Change` says it; docs/resuming.md shows them to users.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from speedpaper_jax.config.defaults import TRAIN
from speedpaper_jax.config.field import Change
from speedpaper_jax.errors import UserError

# Field → its values before and now.
Changes = Mapping[str, Sequence[Any]]


def check(path: Any, changes: Changes) -> None:
  """Raises a UserError if a run may not go on with the changes.

  Args:
    path: of the run's directory.
    changes: of its config; fields of other experiments may be changed.
  """
  for field, (before, now) in changes.items():
    change = _change(field)
    if change and (change.answer == "refused" or (field == "average_decay" and before and not now)):
      raise UserError(
        f"'{path}' holds a run with another config.{field}; {change.consequence}. Choose another "
        f"--workdir, where config.init_from can name this one, or the config that is saved here "
        f"in config.json."
      )


def warnings(changes: Changes) -> Iterator[str]:
  """A sentence for each change that makes a difference to what is trained or evaluated."""
  for field, (before, now) in changes.items():
    change = _change(field)
    if change and change.answer != "goes on":
      yield (
        f"continuing with another config.{field}, {_show(now)} in place of {_show(before)}: "
        f"{change.consequence}."
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
    if are_steps_left or (change := _change(field)) is None or change.answer == "goes on"
  ]


def _change(field: str) -> Change | None:
  """What another value of a field does; None for those of other experiments."""
  return TRAIN[field].change if field in TRAIN else None


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
