"""Reports of runs whose files are damaged: a sentence names the file, or the rest is shown."""

import itertools
import shutil

import fake_ensembles
import fake_measurements
import fake_training
import numpy as np
import past_experiments
import past_runs
import pytest
from commands import ROOT

from benchmarks import hostile_values
from speedpaper_jax import experiments, reports
from speedpaper_jax.config import files as config_files
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import aux_heads, averaged_weights
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

TWO, THREE = ("without", "with"), ("without", "with", "fixed")


def bn_init(path):
  generator = np.random.default_rng(0)
  described = {
    **dict.fromkeys(("first", "last", "last_in_float64"), 0.5),
    **{kind: [None, 3] for kind in ("dead", "overflow", "nan")},
  }
  arrays = {"scales": np.array([0.1, 1.0]), "learning_rates": np.array([0.1])}
  for network in TWO:
    arrays[f"trained/{network}"] = generator.uniform(0, 1, (2, 3))
    for dtype in ("float32", "float64"):
      arrays[f"deep/kaiming/{network}/{dtype}"] = generator.uniform(0.5, 1, (2, 5))
  summary = {
    "deep": {"kaiming": dict.fromkeys(TWO, described)},
    "scales": [0.1, 1.0],
    "trained": {network: {"top1": [0.5, 0.9]} for network in TWO},
  }
  return past_experiments.write(path, "bn_init", arrays, summary, arguments="init=kaiming")


def classification(path, name, networks, layers, summary):
  return past_experiments.classification(
    path, name, networks, layers, summary, (10, 20), dict.fromkeys(networks, (0.5, 0.9))
  )


def covariate_shift(path):
  result = {"top1": 0.9, "drift": 0.1, "unnormalized_drift": 0.2}
  summary = {"layers": ["conv_1", "conv_2"], "networks": dict.fromkeys(TWO, result)}
  return classification(path, "covariate_shift", TWO, 2, summary)


def residual_scaling(path):
  shape = 1, 2, 2, 3
  arrays = {"step": np.arange(3), "deviations": np.ones((*shape, 2))}
  names = ("loss", "top1", "gradient_norm", "dead", "zeros")
  arrays |= {name: np.full(shape, 0.5) for name in names}
  summary = {
    "steps": 12,
    "seconds": 9.0,
    "arms": [{"scale": 1.0, "has_warmup": False}, {"scale": 0.1, "has_warmup": False}],
    "blocks": ["block_a_1", "block_c_1"],
    "filters": [268],
  }
  return past_experiments.write(path, "residual_scaling", arrays, summary, rates=(0.1, 0.2))


def comparison(path, name):
  """With learning curves without learning."""
  config = config_files.load(f"{ROOT}/configs/{name}.py")
  arms = ["inception", "bn_baseline"]
  if name == "transfer":
    config.base.data.dir, arms = str(path.parent / "data"), ["scratch", "frozen"]
  if name == "residual_speedup":
    config.seeds, arms = (0,), ["inception_v3", "inception_resnet_v1"]
  if name == "small_inception":
    config.base.data.dir, arms = str(path.parent / "data"), ["batch_norm", "neither"]
  if name == "bn_benefits":
    config.factor_values, config.seeds = (1, 3), (0, 1)
    arms = [f"{network}-{value}" for network in TWO for value in (1, 3)]
  config.arms = {arm: config.arms[arm] for arm in arms}
  directory = RunDirectory(path)
  summary = experiments.get(name)(config, directory)
  directory.write("summary.json", {"experiment": name, **summary, **past_runs.PROVENANCE})
  return directory


def measured(path, name):
  """With measurements that are made up."""
  config = config_files.load(f"{ROOT}/configs/{name}.py")
  config.base.data.dir = str(path.parent / "data")
  directory = RunDirectory(path)
  summary = experiments.get(name)(config, directory)
  directory.write("summary.json", {"experiment": name, **summary, **past_runs.PROVENANCE})
  return directory


def ensemble(path):
  config = config_files.load(f"{ROOT}/configs/bn_ensemble.py")
  config.base.data.dir = str(path.parent / "data")
  with pytest.MonkeyPatch.context() as patch:
    fake_ensembles.install(patch)
    return fake_ensembles.write(path, config)


WRITERS = {
  "train": past_runs.write,
  "bn_fc": lambda path: past_experiments.bn_fc(path, {name: [9.0, 4.0, 2.0] for name in TWO}),
  "bn_init": bn_init,
  "mnist_bn": lambda path: classification(path, "mnist_bn", THREE, 3, {}),
  "covariate_shift": covariate_shift,
  "residual_scaling": residual_scaling,
  "bn_variants": lambda path: comparison(path, "bn_variants"),
  "bn_benefits": lambda path: comparison(path, "bn_benefits"),
  "residual_speedup": lambda path: comparison(path, "residual_speedup"),
  "transfer": lambda path: comparison(path, "transfer"),
  "small_inception": lambda path: comparison(path, "small_inception"),
  "aux_heads": lambda path: measured(path, "aux_heads"),
  "averaged_weights": lambda path: measured(path, "averaged_weights"),
  "ensemble": ensemble,
}
WITH_ARRAYS = (
  *("bn_fc", "bn_init", "mnist_bn", "covariate_shift"),
  *("residual_scaling", "aux_heads", "averaged_weights"),
)
NOT_SHOWN = ("learning_rates", "train_x", "train_y")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch, hostile_values.without_pictures():
    patch.setattr(train, "run", fake_training.run)
    patch.setattr(aux_heads, "measure", fake_measurements.aux_heads)
    patch.setattr(averaged_weights, "measure", fake_measurements.averaged_weights)
    yield {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


@pytest.fixture
def copy(runs, tmp_path):
  def copy_of(name):
    return RunDirectory(shutil.copytree(runs[name].path, tmp_path / name))

  return copy_of


@pytest.mark.parametrize("name", WRITERS)
def test_whole(copy, name):
  reports.write(copy(name))


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
@pytest.mark.parametrize("name", WRITERS)
def test_whatever_a_file_holds_there_is_a_report_or_a_sentence(runs, tmp_path, name, file):
  for mutation in itertools.islice(hostile_values.mutations(runs[name], file, seed=0), 3):
    found = hostile_values.outcome(mutation, "report", runs[name].path, tmp_path / "damaged")
    assert found in ("accepted", "refused"), mutation


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_arrays_that_are_missing_or_of_another_kind(copy, name):
  directory = copy(name)
  arrays = directory.read_arrays()
  for key, array in arrays.items():
    if key in NOT_SHOWN:
      continue
    others = {
      "it has no": None,
      "holds no numbers": array.astype(str),
      "has the shape": array[..., None],
      "has the shape ": array[:0],
      "has the shape  ": np.float64(1),
    }
    for message, other in others.items():
      rest = {other_key: value for other_key, value in arrays.items() if other_key != key}
      directory.write_arrays(rest if other is None else {**rest, key: other})
      with pytest.raises(UserError, match=rf"arrays\.npz is damaged, .*: .*{message.strip()}"):
        reports.write(directory)


@pytest.mark.parametrize("name", ["mnist_bn", "covariate_shift"])
@pytest.mark.parametrize("steps", [[20, 10], [10, 10], [-10, 10], [1.0, np.nan]])
def test_steps_that_do_not_rise(copy, name, steps):
  directory = copy(name)
  past_experiments.replace(directory, step=np.array(steps))
  with pytest.raises(UserError, match=r"arrays\.npz is damaged, .*: 'step' does not rise"):
    reports.write(directory)


def test_arrays_of_other_lengths_than_each_other(copy):
  directory = copy("bn_fc")
  arrays = directory.read_arrays()
  past_experiments.replace(directory, with__outputs=arrays["with/outputs"][:, :-1])
  with pytest.raises(UserError, match=r"'with/outputs' has the shape \[3, 19\], not \[3, 20\]"):
    reports.write(directory)


def test_arrays_of_another_number_of_epochs_than_the_config(copy):
  directory = copy("bn_fc")
  directory.write("config.json", {**directory.read("config.json"), "epochs": 7})
  with pytest.raises(UserError, match=r"'without/test_loss' has the shape \[3\], not \[8\]"):
    reports.write(directory)


@pytest.mark.parametrize(
  ("name", "file", "change", "message"),
  [
    ("train", "summary.json", {"steps": "6"}, "steps is '6'; it must be a whole number"),
    ("train", "summary.json", {"seconds": None}, "seconds is None; it must be a finite number"),
    ("train", "summary.json", {"eval": {"top1": 0.5}}, "eval.top5 is missing"),
    ("train", "summary.json", {"eval": []}, r"eval is \[\]; it must be a section"),
    ("train", "summary.json", {"machine": ["a"]}, "machine is .*; it must be a section"),
    ("train", "summary.json", {"command": 3}, "command is 3; it must be a text"),
    ("train", "config.json", {"batch_size": -1}, "batch_size is -1; it must be a whole number"),
    ("train", "config.json", {"data": 7}, "config.data is 7; it must be a section"),
    ("train", "model.json", {"class_names": [1]}, r"class_names is \[1\]; it must be a list"),
    ("train", "model.json", {"num_classes": -1}, "num_classes is -1; it must be a whole number"),
    ("bn_fc", "config.json", {"activation": "rleu"}, r"activation='rleu' is unknown"),
    ("bn_init", "summary.json", {"deep": {}}, "deep: it is empty"),
    ("bn_variants", "summary.json", {"targets": [0.5, 0.5]}, "targets is .*; it must be a list of"),
    ("bn_variants", "summary.json", {"arms": {}}, "arms lacks the baseline"),
    ("bn_benefits", "config.json", {"benefit": "luck"}, "benefit='luck' is unknown"),
    ("bn_benefits", "summary.json", {"arms": {}}, r"it has no 'arms\."),
    ("residual_scaling", "summary.json", {"arms": []}, "arms is empty"),
    ("residual_scaling", "summary.json", {"filters": []}, r"filters is \[\]; it must be a list"),
    ("residual_speedup", "summary.json", {"arms": {}}, "arms lacks a pair of networks"),
    ("residual_speedup", "summary.json", {"steps_per_epoch": 0}, "steps_per_epoch is 0; it must"),
    ("residual_speedup", "config.json", {"margin": "1"}, "margin is '1'; it must be a number"),
    ("transfer", "summary.json", {"arms": {}}, "arms lacks 'scratch'"),
    ("transfer", "summary.json", {"source": {"steps": 3}}, "source.seconds is missing"),
    ("transfer", "config.json", {"source": 3}, "source is 3; it must be a section"),
    ("small_inception", "summary.json", {"arms": {}}, "arms has none of batch_norm_and_decay, ba"),
    ("small_inception", "summary.json", {"steps_per_epoch": 0}, "steps_per_epoch is 0; it must be"),
    ("small_inception", "summary.json", {"chance": None}, "chance is None; it must be"),
    ("aux_heads", "summary.json", {"networks": {}}, "networks has none of the two"),
    ("aux_heads", "config.json", {"seeds": []}, r"seeds is \[\]; it must be a list"),
    ("averaged_weights", "summary.json", {"arms": {}}, "arms has none of the config's"),
    ("averaged_weights", "config.json", {"arms": {"a": 3}}, "arms.a is 3; it must be a section"),
    ("ensemble", "summary.json", {"members": {}}, "members has not two of them"),
    ("ensemble", "summary.json", {"by_count": []}, "by_count has not each number of members"),
    ("ensemble", "summary.json", {"ensemble": {"top1": 2}}, "ensemble.top1 is 2; it must be a num"),
    ("ensemble", "config.json", {"members": {}}, "members lacks 'dropout_10'"),
    (
      *("ensemble", "config.json", {"members": {"dropout_10": {"model": {"dropout_rate": "x"}}}}),
      "members.dropout_10.model.dropout_rate is 'x'; it must be a number",
    ),
  ],
)
def test_what_is_wrong_is_named(copy, name, file, change, message):
  directory = copy(name)
  directory.write(file, {**directory.read(file), **change})
  with pytest.raises(
    UserError, match=rf"{name}.*{file} is damaged, or of another version: {message}"
  ):
    reports.write(directory)


def test_a_run_of_a_comparison(copy):
  directory = copy("bn_benefits")
  run = RunDirectory(next((directory.path / "runs").iterdir()))
  run.write("summary.json", {**run.read("summary.json"), "diverged_at": "5"})
  with pytest.raises(UserError, match=r"runs/.*summary\.json is damaged: diverged_at is '5'; it"):
    reports.write(directory)


def test_numbers_that_were_not_finite(copy):
  directory = copy("train")
  summary = directory.read("summary.json")
  directory.write("summary.json", {**summary, "eval": {**summary["eval"], "loss": np.inf}})
  directory.append_metrics(
    {"step": 7, "split": "eval", "loss": np.nan, "top1": 0.5, "top5": 1.0, "count": 9}
  )
  reports.write(directory)
  assert "not finite" in (directory.path / "report.html").read_text()


def test_lines_without_results(copy):
  directory = copy("train")
  directory.append_metrics({"step": 7, "split": "eval"})
  directory.append_metrics({"step": 7, "split": "train"})
  reports.write(directory)


def test_what_files_hold_is_text_on_the_page(copy):
  directory = copy("train")
  script = "<script>alert(1)</script>"
  config, model = directory.read("config.json"), directory.read("model.json")
  summary = directory.read("summary.json")
  config["data"]["name"] = config["duration"] = script
  directory.write("config.json", {**config, script: ""})
  directory.write("model.json", {**model, "class_names": [script, script], "dialect": script})
  summary |= {"command": script, "machine": {script: script}, "versions": {script: script}}
  directory.write("summary.json", {**summary, "finished": script})
  reports.write(directory)
  assert script not in (directory.path / "report.html").read_text()
