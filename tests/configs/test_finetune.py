"""Fine-tuning: which network from which weights, and that it starts."""

import json

import numpy as np
import pytest
import tiny
from config_checks import CLASSES, check_shapes
from PIL import Image

from speedpaper_jax import predict
from speedpaper_jax.config import ranges
from speedpaper_jax.config.files import load
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import IMAGENET
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import user_cache
from speedpaper_jax.models import registry
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.published_weights import table
from speedpaper_jax.reports import train as train_report
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

FILE = "configs/finetune.py"
WITH_AUX_HEADS = set(NETWORKS) - {"bn_inception", "small_inception"}


@pytest.fixture
def tiny_networks(monkeypatch):
  monkeypatch.setattr(registry, "create", tiny.create)


@pytest.fixture
def source(tmp_path, tiny_networks):
  """A model directory of ten classes, with a preprocessing of its own."""
  crop = EvaluationCrop(16, 0.8, "short_side", "bicubic")
  tiny.write_model_directory(
    tmp_path / "source", tuple("0123456789"), Preprocessing(crop, IMAGENET)
  )
  return tmp_path / "source"


@pytest.fixture
def folder(tmp_path):
  """Ten red, ten green and four blue images."""
  generator = np.random.default_rng(0)
  for channel, (name, count) in enumerate({"red": 10, "green": 10, "blue": 4}.items()):
    (tmp_path / "images" / name).mkdir(parents=True)
    for number in range(count):
      pixels = generator.integers(0, 100, (24, 30, 3)).astype(np.uint8)
      pixels[..., channel] += 150
      Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
  return tmp_path / "images"


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.name)
def test_published_weights(row):
  """Nothing is fetched for it."""
  config = load(f"{FILE}:weights={row.name}")
  ranges.check(config)
  assert config.init_from == row.name
  assert (config.model.name, config.model.dialect) == (row.model, row.dialect)
  crop = row.preprocessing.crop
  assert config.data.image_size == crop.image_size
  assert config.data.eval_central_fraction == crop.central_fraction
  assert (config.data.eval_resize, config.data.eval_interpolation) == (
    crop.resize,
    crop.interpolation,
  )


@pytest.mark.parametrize("model", NETWORKS)
def test_from_scratch(model):
  config = load(f"{FILE}:weights=scratch,model={model}")
  assert (config.init_from, config.model.name, config.model.dialect) == ("", model, "")
  assert config.optimizer.learning_rate > load(FILE).optimizer.learning_rate
  check_shapes(config, "folder")


@pytest.mark.parametrize("data", sorted(set(CLASSES) - {"imagenet2012"}))
def test_data(data):
  config = load(f"{FILE}:weights=scratch,data={data}")
  check_shapes(config, data)
  assert config.data.eval_split == ("validation" if data == "folder" else "test")


def test_recipe():
  """Auxiliary losses, step decay and length as in the script of 2014's networks."""
  config = load(FILE)
  assert (config.model.name, config.init_from) == ("googlenet", "torchvision/googlenet")
  assert (config.model.aux_heads, config.aux_weight) == (True, 0.3)
  assert (config.optimizer.name, config.optimizer.sgd.momentum) == ("sgd", 0.9)
  assert (config.optimizer.learning_rate, config.optimizer.base_batch_size) == (0.001, 16)
  schedule = config.optimizer.schedule
  assert (schedule.name, schedule.factor, schedule.boundaries) == ("step", 0.1, ("10 epochs",))
  assert config.duration == "20 epochs"
  assert config.evaluate_ten_crops
  assert config.record_answers


@pytest.mark.parametrize("model", NETWORKS)
def test_auxiliary_heads_where_there_are_some(model):
  config = load(f"{FILE}:weights=scratch,model={model}")
  expected = (True, 0.3) if model in WITH_AUX_HEADS else (False, 0.0)
  assert (config.model.aux_heads, config.aux_weight) == expected


def test_from_a_directory(source):
  saved = RunDirectory(source).read("config.json")
  saved["model"]["activation"] = "tanh"
  saved["batch_norm"]["epsilon"] = 0.01
  (source / "config.json").write_text(json.dumps(saved))
  config = load(f"{FILE}:weights={source}")
  ranges.check(config)
  assert config.init_from == str(source)
  assert (config.model.name, config.model.dialect) == ("bn_inception", "paper")
  assert (config.model.activation, config.batch_norm.epsilon) == ("tanh", 0.01)
  assert (config.data.image_size, config.data.eval_central_fraction) == (16, 0.8)
  assert (config.data.eval_resize, config.data.eval_interpolation) == ("short_side", "bicubic")


class TestMistakes:
  def test_no_such_weights(self):
    with pytest.raises(UserError, match=r"'timm/inception_v5'.* Did you mean 'timm/inception_v4"):
      load(f"{FILE}:weights=timm/inception_v5")

  def test_no_directory_of_weights(self, tmp_path):
    with pytest.raises(UserError, match=r"is not the directory of a run: it has no model.json"):
      load(f"{FILE}:weights={tmp_path}")

  def test_a_file(self, tmp_path):
    (tmp_path / "it.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"it.pth' is a file; convert it with `python -m speedpap"):
      load(f"{FILE}:weights={tmp_path}/it.pth")

  def test_another_network_than_that_of_the_weights(self):
    with pytest.raises(UserError, match=r"'timm/inception_v4' are of inception_v4; leave model=.*"):
      load(f"{FILE}:weights=timm/inception_v4,model=bn_inception")


@pytest.mark.slow
def test_a_folder_from_a_directory_to_predictions(source, folder, tmp_path, monkeypatch, capsys):
  config = load(f"{FILE}:weights={source}")
  config.data.dir, config.duration = str(folder), "30 epochs"
  config.update(batch_size=8, freeze="conv", class_weights="balanced")
  config.optimizer.learning_rate = 0.05
  directory = RunDirectory(tmp_path / "run")
  summary = train.run(config, directory)
  directory.write("summary.json", {"experiment": "train", **summary})
  assert summary["eval"]["count"] == 3
  assert summary["ten_crops"]["top1"] == 1
  page = train_report.present(directory)
  assert "Class by class" in [section.title for section in page.sections]

  monkeypatch.setattr(user_cache, "path", lambda name: tmp_path / "cache" / name)
  images = [str(folder / name / "0.png") for name in ("red", "green", "blue")]
  result = tmp_path / "result.json"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
  arguments = ["predict", str(directory.path), *images, f"--json={result}"]
  predict.main(predict.parse(arguments))
  content = json.loads(result.read_text())
  assert [content[image][0]["name"] for image in images] == ["red", "green", "blue"]
