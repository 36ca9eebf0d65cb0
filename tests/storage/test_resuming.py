"""What may be changed of a run that goes on: every field has its rule."""

import pathlib
import re

import jax
import optax
import pytest

from speedpaper_jax.config.defaults import TRAIN, train_config
from speedpaper_jax.config.field import Change
from speedpaper_jax.config.optimizers import OPTIONS
from speedpaper_jax.errors import UserError
from speedpaper_jax.steps import optim
from speedpaper_jax.storage import checkpoint, resuming

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "resuming.md"


def test_the_page_shows_what_a_change_of_each_field_does():
  fields = {}
  for name, field in TRAIN.items():
    fields.setdefault(field.change, []).append(f"`{name}`")
  rows = re.findall(r"^\| (`.*`) \| (.*) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
  shown = {Change(answer, consequence): names.split(", ") for names, answer, consequence in rows}
  assert {change: sorted(names) for change, names in shown.items()} == (
    {change: sorted(names) for change, names in fields.items()}
  )


@pytest.mark.parametrize(("name", "field"), TRAIN.items())
def test_a_change_is_answered_as_its_field_says(name, field):
  change = field.change
  changes = {name: ("before", "now")}
  if change.answer == "refused":
    with pytest.raises(UserError) as refusal:
      resuming.check("runs/a", changes)
    assert str(refusal.value).startswith(
      f"'runs/a' holds a run with another config.{name}; {change.consequence}. Choose another"
    )
    return
  resuming.check("runs/a", changes)
  told = list(resuming.warnings(changes))
  if change.answer == "goes on":
    assert told == []
    assert resuming.in_effect(changes, are_steps_left=False) == [name]
  else:
    assert told == [
      f"continuing with another config.{name}, 'now' in place of 'before': {change.consequence}."
    ]
    assert resuming.in_effect(changes, are_steps_left=False) == []
  assert resuming.in_effect(changes, are_steps_left=True) == [name]


@pytest.mark.parametrize(
  ("before", "now", "is_refused"),
  [(0.9, 0.0, True), (0.9, 0.99, False), (0.0, 0.9, False), (None, 0.0, False)],
)
def test_an_average_may_begin_and_not_end(before, now, is_refused):
  if not is_refused:
    resuming.check("runs/a", {"average_decay": (before, now)})
    return
  with pytest.raises(UserError, match="0 is refused, since what was evaluated is the average"):
    resuming.check("runs/a", {"average_decay": (before, now)})


def test_fields_of_other_experiments_may_be_changed():
  changes = {"hidden_units": (10, 20)}
  resuming.check("runs/a", changes)
  assert not list(resuming.warnings(changes))
  assert resuming.in_effect(changes, are_steps_left=False) == ["hidden_units"]


class TestSources:
  """Of the leaves of the optimiser's state, for all that it may be changed from and to."""

  FORMS = tuple(
    {"l2": l2, "clip_norm": clip_norm, "momentum": momentum}
    for l2 in (0.0, 0.1)
    for clip_norm in (0.0, 1.0)
    for momentum in (0.0, 0.9)
  )

  def names(self, optimizer, form):
    """Of the state's leaves, as a checkpoint has them."""
    config = train_config().optimizer
    config.name = optimizer
    config.update({name: value for name, value in form.items() if name != "momentum"})
    if "momentum" in config[optimizer]:
      config[optimizer].momentum = form["momentum"]
    transformation = optim.make_optimizer(config, lambda step: 0.1)
    params = {"conv": {"kernel": jax.ShapeDtypeStruct((2, 3), "float32")}}
    state = jax.eval_shape(transformation.init, params)
    return {name for name, _ in checkpoint._named_leaves({"opt_state": state, "params": params})}

  @pytest.mark.parametrize("optimizer", OPTIONS)
  @pytest.mark.parametrize("before", FORMS, ids=str)
  @pytest.mark.parametrize("now", FORMS, ids=str)
  def test_what_is_there_goes_over_and_a_velocity_begins_at_zero(self, optimizer, before, now):
    saved, wanted = self.names(optimizer, before), self.names(optimizer, now)
    sources = resuming.sources(saved, wanted)
    assert sources.keys() == wanted
    has_velocity = optimizer in ("sgd", "rmsprop")
    begins = has_velocity and now["momentum"] and not before["momentum"]
    ends = has_velocity and before["momentum"] and not now["momentum"]
    new = {name for name, source in sources.items() if source is None}
    assert all("/trace/" in name for name in new)
    assert len(new) == begins
    found = {source for source in sources.values() if source is not None}
    assert found <= saved
    left_over = saved - found
    assert all(map(resuming.may_be_dropped, left_over))
    assert len(left_over) == ends

  def test_the_same_form_is_itself(self):
    names = self.names("sgd", self.FORMS[-1])
    assert resuming.sources(names, names) == {name: name for name in names}

  def test_an_average_begins_with_the_parameters_and_statistics(self):
    saved = {"params/a/kernel", "batch_stats/a/mean"}
    wanted = saved | {"average/params/a/kernel", "average/batch_stats/a/mean"}
    sources = resuming.sources(saved, wanted)
    assert sources["average/params/a/kernel"] == "params/a/kernel"
    assert sources["average/batch_stats/a/mean"] == "batch_stats/a/mean"

  def test_what_is_nowhere_stays_unfound(self):
    sources = resuming.sources({"params/a/kernel"}, {"params/b/kernel", "average/params/b/kernel"})
    assert sources == {name: name for name in ("params/b/kernel", "average/params/b/kernel")}

  def test_nothing_else_may_be_dropped(self):
    for name in ("params/trace/kernel", "average/params/a", "opt_state/0/0/nu/a", "step"):
      assert not resuming.may_be_dropped(name)


def test_optax_still_has_the_names_that_are_known():
  """`trace` of SGD and RMSProp lies where `may_be_dropped` looks for it."""
  for optimizer in (optax.sgd(0.1, momentum=0.9), optax.rmsprop(0.1, momentum=0.9)):
    state = optax.chain(optimizer).init({"kernel": 0.0})
    names = [name for name, _ in checkpoint._named_leaves({"opt_state": state})]
    assert any(map(resuming.may_be_dropped, names)), names
