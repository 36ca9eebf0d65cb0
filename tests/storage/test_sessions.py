"""The sessions of a run: which of them count, and when a run has lost its checkpoints."""

import dataclasses
import json

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.storage import sessions
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.sessions import Recorder, Session


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path)


def session(first, last, **fields):
  return Session(
    first_step=first,
    first_examples=8 * first,
    last_step=last,
    batch_size=8,
    epoch_size=80,
    **fields,
  )


def save(directory, step):
  (directory.checkpoints / str(step)).mkdir(parents=True)


class TestRecorder:
  def test_writes_nothing_until_it_begins(self, directory):
    recorder = Recorder(directory, session(0, 0))
    with recorder.ending():
      recorder.reached(5)
    assert not list(directory.path.iterdir())

  def test_records_steps_checkpoints_and_the_end(self, directory):
    recorder = Recorder(directory, session(0, 0, command="a command"))
    recorder.begin()
    with recorder.ending():
      recorder.reached(3)
      assert sessions.read(directory)[0].saved_step == 0
      save(directory, 4)
      recorder.reached(6)
      (found,) = sessions.read(directory)
      assert (found.saved_step, found.last_step, found.end) == (4, 6, "")
      recorder.reached(9)
    (found,) = sessions.read(directory)
    assert (found.saved_step, found.last_step, found.end) == (4, 9, "finished")
    assert found.ended >= found.began > ""

  def test_records_a_failure(self, directory):
    recorder = Recorder(directory, session(0, 0))
    recorder.begin()
    with pytest.raises(UserError), recorder.ending():
      raise UserError("The loss is nan at step 7.")
    assert sessions.read(directory)[0].end == "The loss is nan at step 7."

  def test_a_later_one_is_added(self, directory):
    for first in (0, 10):
      recorder = Recorder(directory, session(first, first))
      recorder.begin()
      with recorder.ending():
        recorder.reached(first + 10)
    assert [each.last_step for each in sessions.read(directory)] == [10, 20]


class TestRead:
  def test_none_of_an_earlier_version(self, directory):
    assert sessions.read(directory) == []

  @pytest.mark.parametrize(
    "damage",
    [
      {"sessions": 3},
      {"sessions": [3]},
      {"sessions": [{}]},
      {},
      {"first_step": "0"},
      {"first_step": None},
      {"saved_step": True},
      {"changes": []},
      {"changes": {"seed": 1}},
      {"changes": {"seed": [1]}},
      {"learning_rates": ["a", "b"]},
      {"epoch_size": 0},
      {"command": 7},
      {"deterministic": "yes"},
    ],
    ids=str,
  )
  def test_damage_is_told(self, directory, damage):
    whole = dataclasses.asdict(session(0, 5))
    content = {"sessions": [{**whole, **damage}]}
    if "sessions" in damage or not damage:
      content = damage
    (directory.path / "sessions.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"sessions\.json is damaged"):
      sessions.read(directory)

  def test_of_an_earlier_version_it_is_not_known_whether_it_was_deterministic(self, directory):
    content = dataclasses.asdict(session(0, 5, deterministic=True))
    directory.write("sessions.json", {"sessions": [content]})
    assert sessions.read(directory)[0].deterministic
    del content["deterministic"]
    directory.write("sessions.json", {"sessions": [content]})
    assert sessions.read(directory)[0].deterministic is None


class TestThatCount:
  def steps(self, *all_sessions):
    return [(each.first_step, each.last_step) for each in sessions.that_count(all_sessions)]

  def test_all_that_went_on_where_one_had_ended(self):
    assert self.steps(session(0, 10), session(10, 30)) == [(0, 10), (10, 30)]

  def test_steps_that_were_taken_again_are_the_later_one_s(self):
    assert self.steps(session(0, 17), session(10, 30)) == [(0, 10), (10, 30)]

  def test_one_of_which_nothing_is_left_does_not(self):
    assert self.steps(session(0, 3), session(0, 10), session(10, 10)) == [(0, 10)]

  def test_a_checkpoint_was_damaged(self):
    found = self.steps(session(0, 10), session(10, 20), session(20, 30), session(5, 40))
    assert found == [(0, 5), (5, 40)]

  def test_what_was_changed_for_one_that_does_not_is_changed_for_the_next(self):
    lost = session(
      10, 12, changes={"seed": [0, 1], "duration": ["a", "b"]}, learning_rates=[1.0, 2.0]
    )
    following = session(10, 20, changes={"seed": [1, 0], "batch_size": [8, 16]})
    first, second = sessions.that_count([session(0, 10), lost, following])
    assert not first.changes
    assert second.changes == {"duration": ("a", "b"), "batch_size": (8, 16)}
    assert second.learning_rates == [1.0, 2.0]

  def test_epochs(self):
    assert session(10, 30).epochs(30) == 3.0


def test_commands_are_in_order_and_the_same_one_continues_by_itself():
  given = ["a", "a", "", "b", "a"]
  all_sessions = [session(0, 1, command=command) for command in given]
  assert sessions.commands(all_sessions, "c") == ["a", "b", "a"]
  assert sessions.commands([session(0, 1)], "c") == ["c"]
  assert sessions.commands([], "") == []


class TestCheckCheckpoints:
  def refused(self, directory):
    with pytest.raises(UserError, match="its checkpoints are gone; put them back into"):
      sessions.check_checkpoints(directory)

  def record(self, directory, saved_step):
    content = dataclasses.asdict(session(0, 5, saved_step=saved_step))
    directory.write("sessions.json", {"sessions": [content]})

  def test_a_new_run(self, directory):
    sessions.check_checkpoints(directory)

  def test_they_are_there(self, directory):
    self.record(directory, 4)
    save(directory, 4)
    sessions.check_checkpoints(directory)

  def test_they_are_gone(self, directory):
    self.record(directory, 4)
    self.refused(directory)

  def test_there_were_none(self, directory):
    self.record(directory, 0)
    directory.append_metrics({"step": 3, "split": "train"})
    sessions.check_checkpoints(directory)

  def test_of_a_run_of_an_earlier_version_that_has_ended(self, directory):
    directory.checkpoints.mkdir()
    directory.write("summary.json", {"steps": 12})
    self.refused(directory)

  def test_of_a_run_of_an_earlier_version_without_the_directory(self, directory):
    directory.append_metrics({"step": 3, "split": "train"})
    self.refused(directory)

  def test_of_a_run_of_an_earlier_version_that_was_killed_early(self, directory):
    directory.checkpoints.mkdir()
    directory.append_metrics({"step": 3, "split": "train"})
    sessions.check_checkpoints(directory)
