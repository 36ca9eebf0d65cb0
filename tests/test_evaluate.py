"""`python -m speedpaper_jax.evaluate DIR`, of a run of the tiny network."""

import json
import shutil

import jax
import pytest
import tiny
from absl.testing import flagsaver
from commands import EVALUATE, finish, start

from speedpaper_jax import entry_point, evaluate, parallel
from speedpaper_jax.config import load
from speedpaper_jax.data import sources
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import train
from speedpaper_jax.models import registry
from speedpaper_jax.normalization import DEFAULT
from speedpaper_jax.preprocessing import Preprocessing
from speedpaper_jax.run_directory import RunDirectory


@pytest.fixture(scope="module")
def trained(scratch, tmp_path_factory):
  """A run's directory and the evaluation in its summary."""
  directory = RunDirectory(tmp_path_factory.mktemp("trained") / "run")
  config = load("configs/bn_inception.py")
  config.update_from_flattened_dict({**tiny.SETTINGS, "data.dir": str(scratch / "data")})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    return directory.path, train.run(config, directory)["eval"]


@pytest.fixture
def run_evaluate(monkeypatch, tmp_path):
  """Runs the command in this process; returns what `--json` has."""
  monkeypatch.setattr(registry, "create", tiny.create)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # leaves JAX's settings as they are

  def run_evaluate(path, *arguments):
    with flagsaver.flagsaver():
      result = tmp_path / "result.json"
      evaluate.main(
        entry_point.parse_flags(["evaluate", str(path), f"--json={result}", *arguments])
      )
    return json.loads(result.read_text())

  return run_evaluate


def assert_same(result, expected):
  """Counts are equal; the loss differs by the order of its sum."""
  assert result["loss"] == pytest.approx(expected["loss"], rel=1e-6)
  assert {**result, **expected, "loss": 0} == {**result, "loss": 0}


def test_reproduces_the_summary(trained, run_evaluate, capsys):
  path, expected = trained
  result = run_evaluate(path)
  assert result == {"step": 12, "data": "digits", "split": "test", **expected}
  assert capsys.readouterr().out.startswith(f"{path} step 12, digits test:\ntop1 ")


@pytest.mark.parametrize("batch_size", [7, 100, 1000])
def test_any_batch_size(trained, run_evaluate, batch_size):
  path, expected = trained
  assert_same(run_evaluate(path, f"--batch_size={batch_size}"), expected)


def test_any_number_of_devices(trained, run_evaluate, monkeypatch):
  """Trained on eight; on three a batch of 122 is padded."""
  path, expected = trained
  three = jax.make_mesh(
    (3,), (parallel.AXIS,), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:3]
  )
  monkeypatch.setattr(parallel, "make_mesh", lambda: three)
  assert_same(run_evaluate(path, "--batch_size=122"), expected)


def test_another_split(trained, run_evaluate):
  result = run_evaluate(trained[0], "--split=train[:50]")
  assert (result["split"], result["count"]) == ("train[:50]", 50)


class TestStep:
  @pytest.fixture
  def path(self, trained, tmp_path):
    """A copy whose metrics call step 8 the best."""
    path = tmp_path / "run"
    shutil.copytree(trained[0], path)
    entries = [
      {"step": step, "split": "eval", "top1": top1} for step, top1 in ((8, 0.9), (12, 0.8))
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path

  @pytest.mark.parametrize(
    ("arguments", "step"),
    [((), 12), (("--step=newest",), 12), (("--step=best",), 8), (("--step=8",), 8)],
  )
  def test_chooses_the_checkpoint(self, path, run_evaluate, arguments, step):
    assert run_evaluate(path, *arguments)["step"] == step

  @pytest.mark.parametrize(
    ("step", "message"),
    [
      ("7", r"has no checkpoint of step 7; it has: 8, 12\."),
      ("bset", "--step=bset is none of newest, best and the number of a step"),
    ],
  )
  def test_mistakes(self, path, run_evaluate, step, message):
    with pytest.raises(UserError, match=message):
      run_evaluate(path, f"--step={step}")

  def test_no_evaluation(self, path, run_evaluate):
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"has no evaluation in its metrics\.jsonl"):
      run_evaluate(path, "--step=best")


def test_changes_nothing(trained, run_evaluate):
  path, _ = trained
  before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
  run_evaluate(path)
  assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


# Orbax leaves a coroutine behind that was never awaited when a file cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint(trained, run_evaluate, tmp_path, capsys):
  path = tmp_path / "run"
  shutil.copytree(trained[0], path)
  (path / "checkpoints" / "12" / "record" / "metadata").write_text("{}")
  before = sorted(path.rglob("*"))
  assert run_evaluate(path)["step"] == 8
  assert "warning: checkpoint 12 is damaged and left out" in capsys.readouterr().err
  assert sorted(path.rglob("*")) == before


def test_the_preprocessing_is_that_of_the_model(trained, run_evaluate, tmp_path):
  path = tmp_path / "run"
  shutil.copytree(trained[0], path)
  content = json.loads((path / "model.json").read_text())
  content["preprocessing"]["central_fraction"] = 0.5
  (path / "model.json").write_text(json.dumps(content))
  assert run_evaluate(path)["loss"] != pytest.approx(trained[1]["loss"], rel=1e-3)


def test_training_data_is_not_needed(trained, run_evaluate, monkeypatch):
  path, expected = trained
  opened = []
  open_split = sources.open_split
  monkeypatch.setattr(
    sources, "open_split", lambda *names: opened.append(names[1]) or open_split(*names)
  )
  assert_same(run_evaluate(path), expected)
  assert opened == ["test"]


def test_weights_that_were_written_without_a_run(scratch, run_evaluate, tmp_path):
  path = tmp_path / "converted"
  names = [str(digit) for digit in range(10)]
  tiny.write_model_directory(path, names, Preprocessing(EvaluationCrop(16), DEFAULT))
  result = run_evaluate(path, f"--data_dir={scratch / 'data'}")
  assert (result["step"], result["count"]) == (0, 355)


class TestMistakes:
  def test_data_of_other_classes(self, scratch, run_evaluate, tmp_path):
    path = tmp_path / "converted"
    tiny.write_model_directory(path, ["a", "b"], Preprocessing(EvaluationCrop(16), DEFAULT))
    with pytest.raises(UserError, match="has 2 classes, but the data set 'digits' has 10; eval"):
      run_evaluate(path, f"--data_dir={scratch / 'data'}")

  def test_not_a_run(self, run_evaluate, tmp_path):
    with pytest.raises(UserError, match=r"is not the directory of a run: it has no config.json"):
      run_evaluate(tmp_path / "nothing")

  def test_no_directory(self):
    with pytest.raises(UserError, match="Name one directory"):
      evaluate.main(["evaluate"])

  @pytest.mark.parametrize("remains", ["an empty directory", "nothing"])
  def test_no_checkpoint(self, trained, run_evaluate, tmp_path, remains):
    path = tmp_path / "run"
    shutil.copytree(trained[0], path, ignore=shutil.ignore_patterns("checkpoints"))
    if remains == "an empty directory":
      (path / "checkpoints").mkdir()
    before = sorted(path.rglob("*"))
    with pytest.raises(UserError, match=r"There is no checkpoint in .*; train for longer"):
      run_evaluate(path)
    assert sorted(path.rglob("*")) == before

  def test_no_such_split(self, trained, run_evaluate):
    with pytest.raises(UserError, match="'tset' is not a split of 'digits'"):
      run_evaluate(trained[0], "--split=tset")

  def test_result_cannot_be_written(self, trained, run_evaluate, tmp_path):
    with pytest.raises(UserError, match="cannot be written: there is no directory"):
      run_evaluate(trained[0], f"--json={tmp_path}/missing/result.json")

  @pytest.mark.slow
  def test_as_a_command(self, scratch, tmp_path):
    status, output, errors = finish(start(scratch, *EVALUATE, tmp_path))
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: '{tmp_path}' is not the directory of a run")
