"""configs/transfer.py: the source network, what its arms start from, and what is said of them."""

import json

import fake_training
import numpy as np
import pytest
import tiny
from fake_training import arm, curve
from PIL import Image

from speedpaper_jax import experiments
from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import transfer
from speedpaper_jax.models import registry
from speedpaper_jax.reports import present
from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import loop, train

CLASSES = 10


def compare(**arms):
  found = transfer.compare(arms, CLASSES)
  json.dumps(found, allow_nan=False)
  return found


class TestCompare:
  SCRATCH = arm(curve(0.2, 0.4, 0.8, 0.6), curve(0.1, 0.2, 0.3, 0.4))

  def test_from_scratch(self):
    found = compare(scratch=self.SCRATCH)
    assert found["chance"] == 0.1
    assert found["targets"] == [0.8, 0.4]
    assert found["arms"]["scratch"] == {
      "rate_factor": 1.0,
      "best_top1": [0.8, 0.4],
      "final_top1": [0.6, 0.4],
      "diverged_at": [None, None],
      "steps_to_target": [30, 40],
    }

  def test_an_arm_that_is_sooner_there_with_each_seed(self):
    free = arm(curve(0.8, 0.9), curve(0.3, 0.5), rate_factor=3.0)
    row = compare(scratch=self.SCRATCH, free=free)["arms"]["free"]
    assert (row["rate_factor"], row["best_top1"]) == (3.0, [0.9, 0.5])
    assert row["steps_to_target"] == pytest.approx([10, 15])

  def test_an_arm_that_never_comes_so_far(self):
    frozen = arm(curve(0.7), curve(0.9, diverged_at=13))
    row = compare(scratch=self.SCRATCH, frozen=frozen)["arms"]["frozen"]
    assert row["steps_to_target"] == [None, pytest.approx(40 / 9)]
    assert row["final_top1"] == [0.7, 0.0]

  def test_there_is_no_target_where_scratch_stayed_at_chance(self):
    found = compare(scratch=arm(curve(0.1, 0.14)), free=arm(curve(0.5)))
    assert found["targets"] == [None]
    assert found["arms"]["free"]["steps_to_target"] == [None]


class TestRun:
  """With learning curves that are made up."""

  @pytest.fixture
  def config(self, scratch):
    config = load("configs/transfer.py")
    config.base.data.dir = str(scratch / "data")
    return config

  @pytest.fixture
  def directory(self, tmp_path):
    return RunDirectory(tmp_path / "comparison")

  def test_summary(self, config, directory, trained_configs):
    config.seeds = (0, 1)
    summary = experiments.get("transfer")(config, directory)
    json.dumps(summary, allow_nan=False)
    assert summary.keys() == {
      *("num_classes", "runs", "steps", "seconds"),
      *("source", "chance", "targets", "arms"),
    }
    assert summary["runs"] == 4 * (3 + 1)
    assert summary["arms"].keys() == set(config.arms)
    source = summary["source"]
    assert 0 < source.pop("seconds") < 1
    assert source == {"data": "mnist", "steps": 40, "top1": 0.95, "same_classes": False}
    assert directory.read("config.json") == json.loads(config.to_json())

  def test_the_source_is_trained_first_and_every_run_names_its_directory(
    self, config, directory, trained_configs
  ):
    transfer.run(config, directory)
    assert next(iter(trained_configs)) == "source"
    assert trained_configs.pop("source").data.name == "mnist"
    assert len(trained_configs) == 4 * 3
    for name, run in trained_configs.items():
      expected = "" if name.startswith("scratch") else str(directory.path / "source")
      assert run.init_from == expected
      saved = RunDirectory(directory.path / "runs" / name).read("config.json")
      assert saved["init_from"] == expected

  def test_the_source_network_is_kept(self, config, directory, monkeypatch):
    def run(config, directory):
      (directory.checkpoints / "4").mkdir(parents=True)
      return fake_training.run(config, directory)

    monkeypatch.setattr(train, "run", run)
    transfer.run(config, directory)
    kept = {path.parent.name for path in directory.path.rglob("checkpoints")}
    assert kept == {"source"}

  def test_nothing_is_done_again(self, config, directory, trained_configs):
    first = transfer.run(config, directory)
    trained_configs.clear()
    assert transfer.run(config, directory) == first
    assert not trained_configs
    config.seeds = (0, 5)
    transfer.run(config, directory)
    assert len(trained_configs) == 4

  def test_another_source_is_refused(self, config, directory, trained_configs):
    transfer.run(config, directory)
    trained_configs.clear()
    config.source.batch_size = 64
    with pytest.raises(UserError, match=r"source' holds a run with another config\.batch_size"):
      transfer.run(config, directory)
    assert not trained_configs

  def test_same_classes_by_their_names(self, config, directory, monkeypatch):
    """As `training.fine_tuning` matches them, in any order."""

    def run(config, directory):
      summary = fake_training.run(config, directory)
      directory.write("model.json", {"num_classes": 10, "class_names": list("9876543210")})
      return summary

    monkeypatch.setattr(train, "run", run)
    assert transfer.run(config, directory)["source"]["same_classes"]

  def test_a_source_that_diverged(self, config, directory, monkeypatch):
    def run(config, directory):
      directory.start(config)
      raise loop.DivergenceError("The loss is nan at step 3.", 3)

    monkeypatch.setattr(train, "run", run)
    with pytest.raises(
      UserError, match=r"source network diverged at step 3; remove '.*/source', a"
    ):
      transfer.run(config, directory)
    assert not (directory.path / "runs").exists()

  @pytest.mark.parametrize(
    ("field", "value", "message"),
    [
      ("source.batch_size", 0, r"config\.source\.batch_size is 0; it must be a whole number"),
      ("source.aux_weight", 0.3, r"In the config of the source network: config\.aux_weight is 0.3"),
      ("base.batch_size", 0, r"config\.base\.batch_size is 0; it must be a whole number"),
      ("source.model.dialect", "slim", r"source\.model\.dialect='slim' is another than config\.ba"),
      ("base.data.name", "digit", r"no data set 'digit'.* Did you mean 'digits'"),
      ("base.init_from", "source", r"'scratch' has init_from='source'; it may be '', where '' is"),
      ("arms.free.init_from", "x", r"'free' has init_from='x'; it may be '' or 'source', where"),
      ("arms.half_frozen.freeze", "conv7", r"freeze of the arm 'half_frozen' has 'conv7', which"),
      ("seeds", (), r"config\.seeds is \(\); it must be a list that is not empty"),
    ],
  )
  def test_mistakes_are_found_before_anything_is_trained(
    self, config, directory, trained_configs, field, value, message
  ):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
      transfer.run(config, directory)
    assert not trained_configs
    assert not directory.path.exists()

  def test_without_the_arm_to_compare_with(self, config, directory, trained_configs):
    del config.arms.scratch
    with pytest.raises(UserError, match=r"config\.arms has no 'scratch', with which .*: free, fro"):
      transfer.run(config, directory)
    assert not trained_configs


def write_folder(path, colors):
  """Twelve images of each color."""
  generator = np.random.default_rng(0)
  for channel, name in enumerate(colors):
    (path / name).mkdir(parents=True)
    for number in range(12):
      pixels = generator.integers(0, 100, (24, 30, 3)).astype(np.uint8)
      pixels[..., channel] += 150
      Image.fromarray(pixels).save(path / name / f"{number}.png")
  return str(path)


@pytest.mark.slow
def test_of_trained_networks(tmp_path, monkeypatch):
  """The tiny network, from a folder of three classes to one of two others."""
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/transfer.py:source=folder,target=folder")
  config.source.data.dir = write_folder(tmp_path / "three", ("red", "green", "blue"))
  config.base.data.dir = write_folder(tmp_path / "two", ("rose", "grass"))
  config.rate_factors = (1.0,)
  config.arms.half_frozen.freeze = "conv"
  for section in (config.source, config.base):
    section.update_from_flattened_dict({**tiny.SETTINGS, "duration": "6 steps"})
    section.update(eval_every="3 steps", log_every="3 steps", checkpoint_every="0 steps")
  config.base.data.train_split = "train"
  directory = RunDirectory(tmp_path / "comparison")
  summary = experiments.get("transfer")(config, directory)
  directory.write("summary.json", {"experiment": "transfer", **summary})
  assert (summary["num_classes"], summary["runs"], summary["steps"]) == (2, 4, 24)
  assert summary["source"]["steps"] == 6
  assert not summary["source"]["same_classes"]
  for name, row in summary["arms"].items():
    found = learning_curves.read(directory, learning_curves.run_name(name, 1.0, 0))
    assert found.steps == [3, 6]
    assert row["best_top1"] == [max(found.top1)]
    assert np.isfinite(found.loss).all()
  assert present(directory).title == "From three to two: pretrained against from scratch"
