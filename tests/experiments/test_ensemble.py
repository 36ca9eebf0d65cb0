"""configs/bn_ensemble.py and configs/inception_ensemble.py: members, one by one, and their mean."""

import itertools
import json

import fake_ensembles
import fake_training
import numpy as np
import pytest
import tiny

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import ensemble
from speedpaper_jax.models import registry
from speedpaper_jax.reports import present
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import loop, train


@pytest.fixture
def config(scratch):
  config = load("configs/bn_ensemble.py")
  config.base.data.dir = str(scratch / "data")
  return config


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "ensemble")


@pytest.fixture
def fake_answers(monkeypatch):
  fake_ensembles.install(monkeypatch)


@pytest.mark.usefixtures("fake_answers")
class TestRun:
  """With learning curves and answers that are made up."""

  def test_summary(self, config, directory, trained_configs):
    summary = experiments.get("ensemble")(config, directory)
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {
      *("num_classes", "steps", "seconds"),
      *("members", "ensemble", "by_count"),
    }
    assert (summary["num_classes"], summary["steps"]) == (10, 6 * 40)
    assert list(summary["members"]) == list(config.members)
    for member in summary["members"].values():
      assert (member["steps"], member["image_size"], member["count"]) == (40, 48, 200)
    assert [(row["count"], row["subsets"]) for row in summary["by_count"]] == [
      *((1, 6), (2, 15), (3, 20), (4, 15), (5, 6), (6, 1))
    ]
    assert directory.read("config.json") == json.loads(config.to_json())

  def test_each_member_is_the_base_with_its_changes(self, config, directory, trained_configs):
    ensemble.run(config, directory)
    assert list(trained_configs) == list(config.members)
    for name, changes in config.members.items():
      expected = config.base.copy_and_resolve_references()
      expected.update(changes)
      assert trained_configs[name].model == expected.model
      assert trained_configs[name].seed == expected.seed

  def test_the_networks_are_kept(self, config, directory, monkeypatch):
    def run(config, directory):
      (directory.checkpoints / "4").mkdir(parents=True)
      return fake_training.run(config, directory)

    monkeypatch.setattr(train, "run", run)
    ensemble.run(config, directory)
    kept = {path.parent.name for path in directory.path.rglob("checkpoints")}
    assert kept == set(config.members)

  def test_what_was_averaged_is_saved(self, config, directory, trained_configs):
    summary = ensemble.run(config, directory)
    with np.load(directory.path / "probabilities.npz") as file:
      saved = dict(file)
    assert saved["members"].tolist() == list(config.members)
    mean = saved["probabilities"].astype(np.float64).mean(0)
    right = mean.argmax(-1) == saved["labels"]
    assert summary["ensemble"]["top1"] == right.mean()
    of_labels = mean[np.arange(len(mean)), saved["labels"]]
    assert summary["ensemble"]["loss"] == pytest.approx(-np.log(of_labels).mean(), rel=1e-12)

  def test_it_goes_on_where_it_was_killed(self, config, directory, trained_configs, monkeypatch):
    run = train.run
    calls = itertools.count(1)

    def run_until_the_third(config, directory):
      if next(calls) == 3:
        raise Interrupted("a test", "step 3", 130)
      return run(config, directory)

    monkeypatch.setattr(train, "run", run_until_the_third)
    with pytest.raises(Interrupted):
      ensemble.run(config, directory)
    done = list(trained_configs)
    assert len(done) == 2
    trained_configs.clear()
    summary = ensemble.run(config, directory)
    assert list(trained_configs) == [name for name in config.members if name not in done]
    trained_configs.clear()
    assert ensemble.run(config, directory) == summary
    assert not trained_configs

  def test_a_further_member(self, config, directory, trained_configs):
    ensemble.run(config, directory)
    trained_configs.clear()
    config.members.plain = {"seed": 6}
    assert len(ensemble.run(config, directory)["members"]) == 7
    assert list(trained_configs) == ["plain"]
    assert "plain" in directory.read("config.json")["members"]

  def test_a_member_that_diverged(self, config, directory, monkeypatch):
    def run(config, directory):
      directory.start(config)
      raise loop.DivergenceError("The loss is nan at step 3.", 3)

    monkeypatch.setattr(train, "run", run)
    message = r"member 'dropout_10' diverged at step 3; remove '.*/runs/dropout_10', and lower its"
    with pytest.raises(UserError, match=message):
      ensemble.run(config, directory)
    assert not (directory.path / "probabilities.npz").exists()

  @pytest.mark.parametrize(
    ("field", "value", "message"),
    [
      ("base.batch_size", 0, r"config\.base\.batch_size is 0; it must be a whole number"),
      ("members.dropout_5.aux_weight", 0.3, r"In the member 'dropout_5': config\.aux_weight is"),
      (
        "members.dropout_5.data.eval_split",
        "test[:9]",
        r"'dropout_5' has data\.eval_split='test\[",
      ),
      ("base.data.name", "digit", r"no data set 'digit'.* Did you mean 'digits'"),
    ],
  )
  def test_mistakes_are_found_before_anything_is_trained(
    self, config, directory, trained_configs, field, value, message
  ):
    *sections, last = field.split(".")
    section = config
    for name in sections:
      if name not in section:
        section[name] = {}
      section = section[name]
    with section.unlocked():
      section[last] = value
    with pytest.raises(UserError, match=message):
      ensemble.run(config, directory)
    assert not trained_configs
    assert not directory.path.exists()

  def test_one_member_is_no_ensemble(self, config, directory, trained_configs):
    for name in list(config.members)[1:]:
      del config.members[name]
    with pytest.raises(UserError, match=r"config\.members has 1; an ensemble has two at least"):
      ensemble.run(config, directory)


def test_a_layer_that_there_is_not_is_found_before_anything_is_trained(
  config, directory, trained_configs, monkeypatch
):
  monkeypatch.setattr(registry, "create", tiny.create)
  for name in list(config.members)[2:]:
    del config.members[name]
  config.members.dropout_5.batch_norm = {"per_activation": "cnov"}
  with pytest.raises(
    UserError, match=r"In the member 'dropout_5': .*per_activation has 'cnov', wh"
  ):
    ensemble.run(config, directory)
  assert not trained_configs


@pytest.mark.slow
def test_of_trained_networks(config, directory, monkeypatch):
  """The tiny network, per activation in one member and at another image size in the other."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config.base.update_from_flattened_dict(
    {**tiny.SETTINGS, "duration": "6 steps", "eval_every": "3 steps", "log_every": "3 steps"}
  )
  for name in list(config.members)[2:]:
    del config.members[name]
  first, second = config.members
  config.members[first] = {"batch_norm": {"per_activation": "conv"}}
  config.members[second] = {"data": {"image_size": 24}, "seed": 1}
  summary = experiments.get("ensemble")(config, directory)
  directory.write("summary.json", {"experiment": "ensemble", **summary})
  assert [member["image_size"] for member in summary["members"].values()] == [16, 24]
  for name, member in summary["members"].items():
    alone = RunDirectory(directory.path / "runs" / name).read("summary.json")["eval"]
    assert (member["top1"], member["count"]) == (alone["top1"], 355)
    assert member["loss"] == pytest.approx(alone["loss"], rel=1e-6)
  assert present(directory).title == "An ensemble of 2 networks on digits"
