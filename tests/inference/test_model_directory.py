"""Directories of trained networks: what is written is what is loaded, and damage is told."""

import errno
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import Normalization
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import model_directory
from speedpaper_jax.inference.model_directory import ModelDescription
from speedpaper_jax.models import registry
from speedpaper_jax.steps import build, optim

SIZE, CLASSES = 8, 3
DESCRIPTION = ModelDescription(
  name="bn_inception",
  dialect="paper",
  num_classes=CLASSES,
  class_names=("a", "b", "c"),
  preprocessing=Preprocessing(
    EvaluationCrop(SIZE, 0.875, "short_side", "bicubic"),
    Normalization("BGR", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0)),
  ),
  source="a test",
)


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    yield


@pytest.fixture(scope="module")
def config():
  """As of a run whose optimiser had a state and whose parameters were averaged."""
  config = train_config()
  config.data.image_size = SIZE
  config.average_decay = 0.9
  return config


@pytest.fixture(scope="module")
def variables(config):
  """As on the host, all different."""
  network = build.build_inference_model(config, CLASSES, parallel.make_mesh())
  drawn = network.init(jax.random.key(3), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
  return jax.tree.map(lambda x: np.asarray(x) + np.float32(0.5), drawn)


@pytest.fixture(scope="module")
def written(config, variables, tmp_path_factory):
  path = tmp_path_factory.mktemp("models") / "converted"
  content = {**DESCRIPTION.to_json(), "remark": "stays"}
  model_directory.write(path, config, content, variables, step=7)
  return path


@pytest.fixture
def copy(written, tmp_path):
  """A copy to damage."""
  path = tmp_path / "copy"
  shutil.copytree(written, path)
  return path


def load(path):
  return model_directory.load(path, parallel.make_mesh())


def test_what_was_written_is_loaded(written, variables, config):
  model = load(written)
  assert model.step == 7
  assert model.description == DESCRIPTION
  assert model.config.data.image_size == config.data.image_size
  jax.tree.map(np.testing.assert_array_equal, model.variables, variables)
  assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(model.variables))
  images = jnp.zeros((2, SIZE, SIZE, 3))
  assert model.network.apply(model.variables, images, train=False).shape == (2, CLASSES)


def test_what_else_the_description_says_is_kept(written):
  assert json.loads((written / "model.json").read_text())["remark"] == "stays"


def test_writing_leaves_the_config_as_it_is(written, config):
  assert (config.optimizer.sgd.momentum, config.average_decay) == (0.9, 0.9)
  saved = model_directory.load_config(written)
  assert saved.to_json() == config.to_json()


def test_a_directory_that_holds_a_run_is_not_written(copy, config, variables):
  before = {file: file.stat().st_mtime_ns for file in copy.rglob("*")}
  with pytest.raises(UserError, match=r"something at '.*copy' already; name another directory"):
    model_directory.write(copy, config, DESCRIPTION.to_json(), variables)
  assert {file: file.stat().st_mtime_ns for file in copy.rglob("*")} == before


def test_a_file_is_not_overwritten(tmp_path, config, variables):
  (tmp_path / "notes").write_text("kept")
  with pytest.raises(UserError, match=r"something at '.*notes' already; name another directory"):
    model_directory.write(tmp_path / "notes", config, DESCRIPTION.to_json(), variables)
  assert (tmp_path / "notes").read_text() == "kept"


def test_what_is_interrupted_leaves_nothing_at_the_path(tmp_path, config, variables, monkeypatch):
  class Killed(BaseException):
    pass

  def die(*_):
    raise Killed

  path = tmp_path / "new"
  path.mkdir()  # an empty one may be there
  with monkeypatch.context() as patch:
    patch.setattr(model_directory.Checkpoints, "save", die)
    with pytest.raises(Killed):
      model_directory.write(path, config, DESCRIPTION.to_json(), variables)
  assert not any(path.iterdir())
  model_directory.write(path, config, DESCRIPTION.to_json(), variables)
  assert load(path).step == 0
  assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_a_full_disk_leaves_nothing(tmp_path, config, variables, monkeypatch):
  def fill_up(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(model_directory.Checkpoints, "save", fill_up)
  with pytest.raises(UserError, match="new' cannot be written: No space left on device"):
    model_directory.write(tmp_path / "new", config, DESCRIPTION.to_json(), variables)
  assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_before(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("kept")
  with pytest.raises(UserError, match=r"cannot be written: '.*file' is no directory"):
    model_directory.check_vacant(tmp_path / "file" / "new")
  with pytest.raises(UserError, match="cannot be written: File name too long"):
    model_directory.check_vacant(tmp_path / ("x" * 300))
  model_directory.check_vacant(tmp_path / "made" / "with" / "the" / "directories" / "above")
  monkeypatch.setattr(os, "access", lambda path, mode: False)
  with pytest.raises(UserError, match="you may not write in"):
    model_directory.check_vacant(tmp_path / "new")


def test_a_bad_description_is_not_written(tmp_path, config, variables):
  content = {**DESCRIPTION.to_json(), "class_names": ["a"]}
  with pytest.raises(UserError, match="1 names are given to 3 classes"):
    model_directory.write(tmp_path / "new", config, content, variables)
  assert not (tmp_path / "new").exists()


def test_a_network_without_classes_has_no_names():
  content = {**DESCRIPTION.to_json(), "num_classes": 0, "class_names": []}
  assert ModelDescription.from_json(content).class_names == ()


def test_no_optimizer_is_built_to_load_and_to_write(
  written, config, variables, tmp_path, monkeypatch
):
  monkeypatch.delattr(optim, "make_optimizer")
  load(written)
  model_directory.write(tmp_path / "new", config, DESCRIPTION.to_json(), variables)
  assert not list((tmp_path / "new" / "checkpoints").glob("*/training"))
  assert list((tmp_path / "new" / "checkpoints").glob("*/weights"))


class TestDamage:
  @pytest.mark.parametrize("name", ["config.json", "model.json"])
  def test_a_missing_file(self, copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"is not the directory of a run: it has no {name}"):
      load(copy)

  @pytest.mark.parametrize("name", ["config.json", "model.json"])
  @pytest.mark.parametrize("content", ["", "{", "[]", "3", "\x00\xff"])
  def test_no_json(self, copy, name, content):
    (copy / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=f"{name} cannot be read"):
      load(copy)

  def test_a_config_without_a_field(self, copy):
    config = json.loads((copy / "config.json").read_text())
    del config["data"]["eval_resize"]
    (copy / "config.json").write_text(json.dumps(config))
    assert load(copy).config.data.eval_resize == "squash"

  @pytest.mark.parametrize("key", ["experiment", "model"])
  def test_a_config_that_does_not_say_of_what_it_is(self, copy, key):
    config = json.loads((copy / "config.json").read_text())
    del config[key]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"config\.json is damaged, or .*no config\.{key}"):
      load(copy)

  @pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
      ("", "batch_size", -1, "config.batch_size is -1; it must be a whole number from 1 to"),
      ("", "batch_size", "32", "config.batch_size is '32'; it must be a whole number"),
      ("", "seed", 2**64, "config.seed is 18446744073709551616; it must be a whole number"),
      ("", "duration", 3, "config.duration is 3; it must be a duration"),
      ("", "average_decay", None, "config.average_decay is None; it must be a number"),
      ("", "keep_best", 1, "config.keep_best is 1; it must be True or False"),
      ("data", "image_size", 10**9, "config.data.image_size is 1000000000; it must be"),
      ("data", "eval_resize", "sqash", r"eval_resize='sqash' is unknown. Did you mean 'squash'\?"),
      ("batch_norm", "epsilon", float("nan"), "config.batch_norm.epsilon is nan; it must be"),
      ("batch_norm", "decay", 1, "config.batch_norm.decay is 1; it must be a number at least 0"),
      ("optimizer", "l2", float("inf"), "config.optimizer.l2 is inf; it must be a finite number"),
      ("model", "name", "inception", "config.model.name='inception' is unknown"),
      ("model", "dialect", "x", "bn_inception has no dialect 'x'"),
      ("model", "a.b", 1, "does not accept dots in field names"),
      ("model", "__class__", 1, "cannot be overridden"),
    ],
  )
  def test_a_config_that_the_command_line_would_not_take(self, copy, section, key, value, message):
    config = json.loads((copy / "config.json").read_text())
    (config[section] if section else config)[key] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"config\.json is damaged.*: .*{message}"):
      load(copy)

  @pytest.mark.parametrize("value", [3, None, [], "data"])
  def test_a_config_whose_section_is_none(self, copy, value):
    config = json.loads((copy / "config.json").read_text())
    config["data"] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
      UserError, match=r"config\.json is damaged, .*: config\.data is .*a section"
    ):
      load(copy)

  @pytest.mark.parametrize("value", [0.5, "mixup", [1, {"a": None}], True])
  def test_a_config_with_a_field_of_another_version(self, copy, value):
    config = json.loads((copy / "config.json").read_text())
    config["data"]["later"] = {"field": value}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
      UserError, match=r": config\.data\.later\.field is .*, which version .* does"
    ):
      load(copy)

  @pytest.mark.parametrize("value", [0, 0.0, "", [], {}, False, None])
  def test_a_field_that_asks_for_nothing_is_what_the_code_does_anyway(self, copy, value):
    config = json.loads((copy / "config.json").read_text())
    config["later"] = {"field": value}
    (copy / "config.json").write_text(json.dumps(config))
    assert load(copy).step == 7

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      ({"num_classes": "three"}, "num_classes is 'three'; it must be a whole number from 0 to"),
      ({"num_classes": -1}, "num_classes is -1; it must be a whole number from 0 to 1,048,576"),
      ({"num_classes": 10**12}, "num_classes is 1000000000000; it must be a whole number"),
      ({"num_classes": True, "class_names": ["a"]}, "num_classes is True; it must be a whole"),
      ({"num_classes": 3.0}, "num_classes is 3.0; it must be a whole number"),
      ({"class_names": None}, "class_names is None; it must be a list, each a text"),
      ({"class_names": "abc"}, "class_names is 'abc'; it must be a list, each a text"),
      ({"class_names": [1, 2, 3]}, r"class_names is \[1, 2, 3\]; it must be a list, each a text"),
      ({"class_names": ["a", "b"]}, "2 names are given to 3 classes"),
      ({"name": "bn_incepton"}, r"name='bn_incepton' is unknown. Did you mean 'bn_inception'\?"),
      ({"name": None}, "name is None; it must be a text"),
      ({"dialect": "papr"}, r"bn_inception has no dialect 'papr'. Did you mean 'paper'\?"),
      ({"dialect": ""}, "dialect is ''; it must be a text that is not empty"),
      ({"source": 3}, "source is 3; it must be a text"),
      ({"preprocessing": []}, r"preprocessing is \[\]; it must be a section"),
      ({"format": 4}, "its format is 4, and version .* knows those up to 3; use the version that"),
      ({"format": "2"}, "format is '2'; it must be a whole number"),
      ({"preprocessing": {}}, "There is no 'image_size' of the crop"),
    ],
  )
  def test_a_bad_description(self, copy, change, message):
    (copy / "model.json").write_text(json.dumps({**DESCRIPTION.to_json(), **change}))
    with pytest.raises(UserError, match=rf"model.json is damaged, or of another .*: {message}"):
      load(copy)

  @pytest.mark.parametrize("key", sorted(DESCRIPTION.to_json().keys() - {"format"}))
  def test_a_description_without_a_field(self, copy, key):
    content = DESCRIPTION.to_json()
    del content[key]
    (copy / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"There is no '{key}'"):
      load(copy)

  def test_another_experiment(self, copy):
    (copy / "config.json").write_text('{"experiment": "bn_fc"}')
    with pytest.raises(UserError, match=f"'{copy}' is of the experiment 'bn_fc', which keeps no n"):
      load(copy)

  def test_an_experiment_whose_runs_have_networks(self, copy):
    (copy / "config.json").write_text('{"experiment": "ensemble"}')
    (copy / "runs" / "b").mkdir(parents=True)
    (copy / "runs" / "c" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=f"in its runs; name one, '{copy}/runs/c' for example"):
      load(copy)

  def test_no_checkpoint(self, copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match=r"There is no checkpoint in .*checkpoints"):
      load(copy)

  # Orbax leaves a coroutine behind that was never awaited when a file cannot be read.
  @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
  def test_a_damaged_checkpoint(self, copy):
    (copy / "checkpoints" / "7" / "record" / "metadata").write_text("{}")
    with pytest.raises(UserError, match=r"None of the checkpoints in .* can be read \(1 damaged\)"):
      load(copy)

  @pytest.mark.parametrize("value", [np.nan, -np.inf])
  def test_weights_that_are_not_finite(self, config, variables, tmp_path, value):
    damaged = jax.tree.map(np.copy, variables)
    damaged["params"]["conv"]["conv"]["kernel"][0, 0, 0, :2] = value
    model_directory.write(tmp_path / "new", config, DESCRIPTION.to_json(), damaged)
    with pytest.raises(
      UserError,
      match=r"2 of the 216 values of params/conv/conv/kernel in .*new.*, step 0, are not finite",
    ):
      load(tmp_path / "new")

  def test_another_network_than_the_weights(self, copy):
    content = {**DESCRIPTION.to_json(), "num_classes": 4, "class_names": []}
    (copy / "model.json").write_text(json.dumps(content))
    with pytest.raises(
      UserError, match=r"its params/logits/bias is float32\[3\], not float32\[4\]"
    ):
      load(copy)
