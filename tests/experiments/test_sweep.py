"""Many runs of the training loop, with the tiny network: each once, whatever comes of it."""

import json
import os
import shutil
import signal

import fake_training
import ml_collections
import pytest
import tiny

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.files import load
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import sweep
from speedpaper_jax.models import registry
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train
from speedpaper_jax.training.progress import Progress


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    yield


@pytest.fixture(scope="module")
def base(scratch):
  config = load("configs/bn_inception.py")
  config.update_from_flattened_dict(tiny.SETTINGS)
  config.data.dir = str(scratch / "data")
  config.data.eval_split = "test[:16]"
  config.eval_batch_size = 16
  config.duration = "4 steps"
  return config


def at_rates(base, **rates):
  return {
    name: sweep.apply(base, ml_collections.ConfigDict({"optimizer": {"learning_rate": rate}}))
    for name, rate in rates.items()
  }


def summaries(directory):
  """The files' content and the times at which they were written."""
  return {
    path.parent.name: (path.read_text(), path.stat().st_mtime_ns)
    for path in directory.path.glob("runs/*/summary.json")
  }


@pytest.fixture(scope="module")
def ended(base, tmp_path_factory):
  """Directory and summaries of three runs, of which the second diverges."""
  directory = RunDirectory(tmp_path_factory.mktemp("sweep"))
  return directory, sweep.run(at_rates(base, low=0.01, absurd=1e38, high=0.02), directory)


@pytest.mark.slow
class TestRun:
  def test_every_run_leaves_what_a_run_leaves(self, base, ended):
    directory, returned = ended
    assert {path.name for path in (directory.path / "runs").iterdir()} == {*returned}
    for name, summary in returned.items():
      run = learning_curves.run_directory(directory, name)
      assert run.read("summary.json") == summary
      assert run.read("model.json")["num_classes"] == 10
    assert run.read("config.json")["optimizer"]["learning_rate"] == 0.02

  def test_summaries(self, ended):
    _, returned = ended
    for name in ("low", "high"):
      assert returned[name].keys() == {"experiment", "steps", "seconds", "eval", "best"}
      assert (returned[name]["experiment"], returned[name]["steps"]) == ("train", 4)
      assert returned[name]["eval"]["count"] == 16

  def test_divergence_is_recorded_and_does_not_end_the_sweep(self, ended):
    _, returned = ended
    assert list(returned) == ["low", "absurd", "high"]
    absurd = returned["absurd"]
    assert absurd.keys() == {"experiment", "steps", "seconds", "diverged_at"}
    assert 1 <= absurd["diverged_at"] == absurd["steps"] <= 4

  def test_checkpoints_are_removed(self, ended):
    directory, _ = ended
    assert not list(directory.path.glob("runs/*/checkpoints"))

  def test_what_is_there_is_not_done_again(self, base, ended, monkeypatch, capsys):
    directory, returned = ended
    before = summaries(directory)
    monkeypatch.delattr(train, "run")
    again = sweep.run(at_rates(base, low=0.01, absurd=1e38, high=0.02), directory)
    assert again == returned
    assert summaries(directory) == before
    assert "run 2 of 3, absurd: done before\n" in capsys.readouterr().out

  def test_another_config_is_refused(self, base, ended, monkeypatch):
    directory, _ = ended
    before = summaries(directory)
    monkeypatch.delattr(train, "run")
    with pytest.raises(UserError, match=r"low' holds a run with another config\.optimizer\.learn"):
      sweep.run(at_rates(base, low=0.03), directory)
    assert summaries(directory) == before

  def test_other_data_are_refused(self, base, ended, tmp_path, monkeypatch):
    """Its runs are compared, and would be of other images."""
    shutil.copytree(ended[0].path, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "runs" / "low" / "data.json"
    content = json.loads(path.read_text())
    content["eval"]["examples"] += 1
    path.write_text(json.dumps(content))
    monkeypatch.delattr(train, "run")
    with pytest.raises(UserError, match=r"low' .* other images .*\(17 before, 16 now"):
      sweep.run(at_rates(base, low=0.01), RunDirectory(tmp_path))

  def test_curves_are_read_from_it(self, ended):
    directory, returned = ended
    curve = learning_curves.read(directory, "low")
    assert curve.steps == [4]
    assert curve.final_top1 == returned["low"]["eval"]["top1"]
    absurd = learning_curves.read(directory, "absurd")
    assert absurd.diverged_at == returned["absurd"]["diverged_at"]
    assert absurd.final_top1 == 0


@pytest.mark.slow
def test_the_same_call_continues_after_an_interruption(base, tmp_path, monkeypatch, capsys):
  directory, show = RunDirectory(tmp_path), Progress.train

  def show_and_interrupt(self, step, *arguments, **named):
    show(self, step, *arguments, **named)
    if step == 2 and (tmp_path / "runs" / "second").exists():
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(Progress, "train", show_and_interrupt)
    with pytest.raises(Interrupted):
      sweep.run(at_rates(base, first=0.01, second=0.02), directory)
  before = summaries(directory)
  assert before.keys() == {"first"}

  # Half of the run would be of one config and half of the other.
  with pytest.raises(UserError, match=r"second' holds a run with another config\.optimizer"):
    sweep.run(at_rates(base, first=0.01, second=0.03), directory)

  summary = sweep.run(at_rates(base, first=0.01, second=0.02), directory)["second"]
  assert "resuming after step 3\n" in capsys.readouterr().out
  assert summary["steps"] == 4
  after = summaries(directory)
  assert after.keys() == {"first", "second"}
  assert after["first"] == before["first"]
  assert not list(directory.path.glob("runs/*/checkpoints"))


class TestWithoutTraining:
  @pytest.fixture
  def configs(self):
    return at_rates(train_config(), one=0.01, two=0.02)

  def test_a_mistake_in_a_config_is_told(self, configs, tmp_path, monkeypatch):
    """And can be mended in the same directory, where nothing was trained with it."""
    wrong = sweep.apply(configs["one"], ml_collections.ConfigDict({"batch_size": 0}))
    with pytest.raises(UserError, match=r"config\.batch_size is 0; it must be a whole"):
      sweep.run({"one": wrong}, RunDirectory(tmp_path))
    monkeypatch.setattr(train, "run", fake_training.run)
    assert sweep.run(configs, RunDirectory(tmp_path)).keys() == {"one", "two"}

  def test_a_run_that_another_process_writes(self, configs, tmp_path, monkeypatch):
    monkeypatch.delattr(train, "run")
    other = learning_curves.run_directory(RunDirectory(tmp_path), "one")
    with other.locked(), pytest.raises(UserError, match=r"Another process writes '.*runs/one'"):
      sweep.run(configs, RunDirectory(tmp_path))

  def test_more_runs_in_the_same_directory(self, configs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", fake_training.run)
    directory = RunDirectory(tmp_path)
    sweep.run({"one": configs["one"]}, directory)
    before = summaries(directory)
    assert sweep.run(configs, directory).keys() == {"one", "two"}
    assert summaries(directory)["one"] == before["one"]

  def test_seconds_are_those_of_the_whole_run(self, configs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", fake_training.run)  # which says it took a second
    summary = sweep.run({"one": configs["one"]}, RunDirectory(tmp_path))["one"]
    assert 0 < summary["seconds"] < 1


class TestChanges:
  def test_are_the_fields_that_differ_in_their_sections(self):
    base, config = train_config(), train_config()
    config.update(seed=3, optimizer={"l2": 0.5, "schedule": {"factor": 0.9}})
    assert sweep.changes(base, config).to_dict() == {
      "seed": 3,
      "optimizer": {"l2": 0.5, "schedule": {"factor": 0.9}},
    }

  def test_make_the_config_of_the_base_again(self):
    base, config = train_config(), train_config()
    config.update(duration="1 steps", model={"activation": "sigmoid", "residual_scales": (1, 2, 3)})
    assert sweep.apply(base, sweep.changes(base, config)) == config
    assert base == train_config()

  def test_there_are_none_of_equal_configs(self):
    assert not sweep.changes(train_config(), train_config())
    assert sweep.apply(train_config(), ml_collections.ConfigDict()) == train_config()
