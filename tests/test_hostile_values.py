"""benchmarks/hostile_values.py in a small form, and that it would notice."""

import json

import pytest

from benchmarks import hostile_values
from speedpaper_jax.inference import model_directory
from speedpaper_jax.reports import contents


@pytest.fixture
def run(tmp_path):
  return hostile_values.write_run(tmp_path / "run")


def test_no_damage_ends_in_a_traceback(tmp_path):
  with hostile_values.without_pictures():
    counts, wrong = hostile_values.attack(8, 1, tmp_path)
  assert wrong == []
  assert counts.total() == 8 * len(hostile_values.FILES) * len(hostile_values.READERS)
  for name in ("config.json", "model.json"):
    assert counts[f"{name}, load: refused"] > 3


@pytest.mark.parametrize("reader", hostile_values.READERS)
def test_the_run_itself_is_accepted(run, tmp_path, reader):
  content = (run.path / "config.json").read_bytes()
  mutation = hostile_values.Mutation("config.json", "nothing", content, senseless=False)
  with hostile_values.without_pictures():
    found = hostile_values.outcome(mutation, reader, run.path, tmp_path / "damaged")
  assert found == "accepted"


def test_a_value_that_is_no_number_would_be_noticed(run, tmp_path, monkeypatch):
  monkeypatch.setattr(
    model_directory.ranges, "check_fields", lambda config, rules, experiment: None
  )
  content = {**run.read("config.json"), "seed": None}
  mutation = hostile_values.Mutation("config.json", "", json.dumps(content).encode(), True)
  found = hostile_values.outcome(mutation, "load", run.path, tmp_path / "damaged")
  assert found == "taken for a number"


def test_a_traceback_would_be_noticed(run, tmp_path, monkeypatch):
  monkeypatch.setattr(contents.rules, "check", lambda content, of: None)
  content = {**run.read("summary.json"), "seconds": "x"}
  mutation = hostile_values.Mutation("summary.json", "", json.dumps(content).encode(), False)
  with hostile_values.without_pictures():
    found = hostile_values.outcome(mutation, "report", run.path, tmp_path / "damaged")
  assert found.startswith("TypeError: ")
