"""Directories that past versions wrote go on to work: see tests/past_versions/README.md."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tiny

from speedpaper_jax import convert, evaluate, models, predict, report, reports
from speedpaper_jax.config import defaults as defaults_module
from speedpaper_jax.config.changes import SAME_TRAINING
from speedpaper_jax.config.field import Field
from speedpaper_jax.config.files import load
from speedpaper_jax.distributed import parallel
from speedpaper_jax.files import rules
from speedpaper_jax.inference import model_directory
from speedpaper_jax.interop import conversion
from speedpaper_jax.models import registry
from speedpaper_jax.models.dialect import PAPER_BATCH_NORM
from speedpaper_jax.models.layers import LayerSettings
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

ALL = pathlib.Path(__file__).parent / "past_versions"
# Of the command that began each run.
SETTINGS = {
  "data.image_size": 16,
  "data.augmentation.shift": 2,
  "batch_size": 8,
  "duration": "12 steps",
  "checkpoint_every": "4 steps",
  "log_every": "1 steps",
  "eval_every": "4 steps",
  "average_decay": 0.9,
  "optimizer.name": "rmsprop",
  "optimizer.l2": 4e-5,
  "optimizer.learning_rate": 0.002,
  "checkpoints_to_keep": 1,
}


def create(name, dialect="paper", *, settings=None, **fields):
  """In place of `models.create`."""
  settings = settings or LayerSettings(batch_norm=PAPER_BATCH_NORM)
  return tiny.create(name, dialect, settings=settings, **fields)


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
  monkeypatch.setattr(registry, "create", create)
  monkeypatch.setattr(models, "create", create)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # leaves JAX's settings as they are


@pytest.fixture(params=["as they are", "with more fields"], autouse=True)
def defaults(request, monkeypatch):
  """Today's, and what a later version may come to have besides."""
  if request.param == "as they are":
    return

  for name, default in {"later": 0.5, "data.augmentation.later": "on", "a.b.c": (1, 2)}.items():
    field = Field(default, rules.Rule("anything", lambda value: True), SAME_TRAINING)
    monkeypatch.setitem(defaults_module.TRAIN, name, field)


@pytest.fixture(params=sorted(path.name for path in ALL.iterdir() if path.is_dir()))
def kept(request):
  """The directory of one version."""
  return ALL / request.param


@pytest.fixture
def results(kept):
  return json.loads((kept / "results.json").read_text())


@pytest.fixture
def run_directory(kept, tmp_path):
  """A copy that may be written."""
  return RunDirectory(shutil.copytree(kept / "run", tmp_path / "run"))


@pytest.fixture
def run_command(tmp_path):
  """Runs a command in this process; returns what `--json` has."""

  def run_command(command, *arguments):
    result = tmp_path / "result.json"
    command.main(command.parse([command.__name__, *map(str, arguments), f"--json={result}"]))
    return json.loads(result.read_text())

  return run_command


@pytest.fixture
def config(scratch):
  config = load("configs/bn_inception.py")
  config.update_from_flattened_dict({**SETTINGS, "data.dir": str(scratch / "data")})
  return config


def test_are_small():
  assert sum(path.stat().st_size for path in ALL.rglob("*") if path.is_file()) < 300_000


@pytest.mark.parametrize(
  ("name", "arguments"), [("run", []), ("run, best", ["--step=best"]), ("converted", [])]
)
def test_evaluate(kept, results, run_command, scratch, name, arguments):
  path = kept / name.partition(",")[0]
  found = run_command(evaluate, path, "--data=digits", f"--data_dir={scratch / 'data'}", *arguments)
  expected = results["evaluate"][name]
  assert found.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-5)
  description = json.loads((path / "model.json").read_text())
  assert found == {
    # Later versions say these, too.
    "crops": 1,
    "weights": "averaged",
    "name": str(path),
    "preprocessing": description["preprocessing"],
    **expected,
  }


@pytest.mark.parametrize("name", ["run", "converted"])
def test_predict(kept, results, run_command, name):
  images = sorted((kept / "images").iterdir())
  found = run_command(predict, kept / name, *images)
  for image in images:
    answer = {each["name"]: each["probability"] for each in found[str(image)]}
    assert answer == pytest.approx(results["predict"][name][image.name], rel=1e-4)


def test_a_run_goes_on(run_directory, results, config, capsys):
  """To the same end as if it had not been stopped."""
  summary = train.run(config, run_directory)
  output = capsys.readouterr()
  assert "resuming after step 10" in output.out
  assert "Warning" not in output.err
  assert summary["steps"] == 12
  metrics = [entry for entry in run_directory.metrics() if entry["step"] > 10]
  assert [entry["step"] for entry in metrics] == [11, 12, 12]
  for found, expected in zip(metrics, results["continued"], strict=True):
    assert found["split"] == expected.pop("split")
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-3)


def test_report(kept, tmp_path):
  directory = RunDirectory(shutil.copytree(kept / "ended", tmp_path / "ended"))
  assert reports.write(directory).result.startswith(
    "Top-1 accuracy on 355 held-out images is 13.24 %, top-5 54.93 %, after 12 steps"
  )


def test_comparison(kept, tmp_path):
  """Of a run that has ended with one that has not."""
  out = tmp_path / "comparison.html"
  report.main(report.parse(["report", str(kept / "ended"), str(kept / "run"), f"--out={out}"]))
  assert {"13.24", "12.39"} <= set(re.findall(r"\d+\.\d+", out.read_text()))


def test_fine_tuning_starts_from_it(kept, tmp_path, config, capsys):
  for name in ("run", "converted"):
    config.init_from = str(kept / name)
    config.duration = "1 steps"
    config.model.dialect = "paper"
    assert train.run(config, RunDirectory(tmp_path / name))["steps"] == 1
    assert f"starting from the weights in {config.init_from}\n" in capsys.readouterr().out


def test_convert_to_torch(kept, tmp_path):
  load_file = pytest.importorskip("safetensors.numpy").load_file
  out = tmp_path / "weights.safetensors"
  convert.main(
    convert.parse(["convert", "--to=torch", f"--weights={kept / 'converted'}", f"--out={out}"])
  )
  found, expected = load_file(out), load_file(kept / "weights.safetensors")
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    np.testing.assert_array_equal(found[name], values)


def test_a_run_has_a_state_dict(kept):
  loaded = model_directory.load(kept / "run", parallel.make_mesh())
  state_dict = conversion.state_dict_of(loaded, None)
  np.testing.assert_array_equal(
    state_dict["logits.weight"], loaded.variables["params"]["logits"]["kernel"].T
  )
