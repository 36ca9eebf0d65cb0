"""The rows agree with the networks, with each other, and with the packages' own settings."""

import importlib.util
import pathlib
import re

import pytest
from packages import require

from speedpaper_jax.data.normalization import IMAGENET
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import references
from speedpaper_jax.interop.names import implementations
from speedpaper_jax.models import registry
from speedpaper_jax.published_weights import table

ROWS = [pytest.param(row, id=row.name) for row in table.ROWS]
# Package → what `interop` calls it.
SOURCES = {"facenet-pytorch": "facenet"}


def test_every_package_is_there():
  count = dict.fromkeys((row.package for row in table.ROWS), 0)
  for row in table.ROWS:
    count[row.package] += 1
  assert count == {
    "timm": 7,
    "torchvision": 2,
    "pretrainedmodels": 3,
    "pytorchcv": 5,
    "facenet-pytorch": 2,
    "keras": 4,
    "pytorch-fid": 1,
  }


def test_no_two_rows_are_one():
  for attribute in ("name", "url", "file_name"):
    assert len({getattr(row, attribute) for row in table.ROWS}) == len(table.ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_package_has_that_network_in_that_dialect(row):
  assert row.dialect in registry.dialects(row.model)
  sources = [names.source for names in implementations(row.model, row.dialect)]
  assert SOURCES.get(row.package, row.package) in sources


@pytest.mark.parametrize("row", ROWS)
def test_what_a_file_name_says_of_its_checksum(row):
  found = re.search(r"-([0-9a-f]{8,9})\.(pth|pth\.zip)$", row.file_name)
  if found:
    assert row.checksum is not None
    assert row.checksum.digest.startswith(found[1])


@pytest.mark.parametrize("row", ROWS)
def test_accuracies_are_numbers_of_percent(row):
  for accuracy in (row.top1, row.top5):
    assert accuracy == "–" or 60 < float(accuracy) < 100
  if "–" not in (row.top1, row.top5):
    assert float(row.top1) < float(row.top5)


def test_only_one_of_timms_inception_v3_has_imagenets_own_mean():
  rows = [row for row in table.ROWS if row.name.startswith("timm/inception_v3")]
  own = [row.name for row in rows if row.preprocessing.normalization == IMAGENET]
  assert own == ["timm/inception_v3.gluon_in1k"]


@pytest.mark.parametrize(
  "row", [pytest.param(row, id=row.name) for row in table.ROWS if row.package == "timm"]
)
def test_timms_rows_are_its_own(row):
  require("timm")
  config = references.import_package("timm").models.get_pretrained_cfg(row.name.partition("/")[2])
  crop, normalization = row.preprocessing.crop, row.preprocessing.normalization
  assert config.input_size == (3, crop.image_size, crop.image_size)
  assert (config.crop_pct, config.interpolation) == (crop.central_fraction, crop.interpolation)
  assert [255 * value for value in config.mean] == pytest.approx(normalization.mean)
  assert [255 * value for value in config.std] == pytest.approx(normalization.std)
  assert config.license == row.licence.lower()


@pytest.mark.parametrize(
  "row", [pytest.param(row, id=row.name) for row in table.ROWS if row.package == "torchvision"]
)
def test_torchvisions_rows_are_its_own(row):
  require()
  models = references.import_package("torchvision.models")
  weights = models.get_model_weights(row.model).IMAGENET1K_V1
  assert weights.url == row.url
  accuracies = weights.meta["_metrics"]["ImageNet-1K"]
  assert (accuracies["acc@1"], accuracies["acc@5"]) == (float(row.top1), float(row.top5))


@pytest.mark.parametrize(
  "row", [pytest.param(row, id=row.name) for row in table.ROWS if row.package == "pytorchcv"]
)
def test_pytorchcvs_rows_are_its_own(row):
  require("pytorchcv")
  store = references.import_package("pytorchcv.models.common.model_store")
  name = row.name.partition("/")[2]
  error, sha1, release = store.get_model_name_suffix_data(name)
  assert row.checksum == ("sha1", sha1)
  assert row.url == f"{table._PYTORCHCV}/{release}/{name}-{error}-{sha1[:8]}.pth.zip"
  assert 100 - float(row.top5) == pytest.approx(int(error) / 100, abs=0.006)


@pytest.mark.parametrize(
  "row", [pytest.param(row, id=row.name) for row in table.ROWS if row.package == "pretrainedmodels"]
)
def test_cadenes_rows_are_its_own(row):
  require("pretrainedmodels")
  name = row.name.partition("/")[2]
  file = references.import_package(f"pretrainedmodels.models.{name}")
  settings = file.pretrained_settings[name]["imagenet"]
  assert settings["url"] == row.url
  assert settings["input_space"] == row.preprocessing.normalization.channels


# Where packages without such a table have the addresses of their files.
LOADERS = {
  "facenet-pytorch/vggface2": "facenet_pytorch/models/inception_resnet_v1.py",
  "facenet-pytorch/casia-webface": "facenet_pytorch/models/inception_resnet_v1.py",
  "keras/inception_v3": "keras/src/applications/inception_v3.py",
  "keras/inception_v3_notop": "keras/src/applications/inception_v3.py",
  "keras/inception_resnet_v2": "keras/src/applications/inception_resnet_v2.py",
  "keras/inception_resnet_v2_notop": "keras/src/applications/inception_resnet_v2.py",
  "pytorch-fid/inception_v3": "pytorch_fid/inception.py",
}


@pytest.mark.parametrize("name", LOADERS)
def test_other_packages_loaders_fetch_the_same_file(name):
  row, (package, _, path) = table.find(name), LOADERS[name].partition("/")
  require(package)
  spec = importlib.util.find_spec(package)
  loader = pathlib.Path(spec.submodule_search_locations[0], path).read_text(encoding="utf-8")
  # Long names are written in pieces there.
  loader = re.sub(r'"\s+"', "", loader)
  directory, _, file = row.url.rpartition("/")
  assert directory in loader
  assert file in loader
  assert row.checksum is None or row.checksum.digest in loader


class TestFind:
  def test_by_name(self):
    assert table.find("pytorchcv/inceptionv4").name == "pytorchcv/inceptionv4"

  def test_the_packages_default_needs_no_tag(self):
    assert table.find("timm/inception_v3").name == "timm/inception_v3.tv_in1k"
    assert table.find("timm/inception_resnet_v2").name == "timm/inception_resnet_v2.tf_in1k"

  def test_a_mistake(self):
    with pytest.raises(UserError, match=r"Did you mean 'timm/inception_v4.tf_in1k'\?.*lists them"):
      table.find("tim/inception_v4")


def test_a_mirror_of_the_hub(monkeypatch):
  row = table.find("timm/inception_v4")
  monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
  assert table.address(row) == (
    "http://127.0.0.1:1/timm/inception_v4.tf_in1k/resolve/main/model.safetensors"
  )
  assert table.address(table.find("torchvision/googlenet")).startswith("https://download.pytorch")


def test_what_begins_with_a_package_is_a_row_unless_it_is_there(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert table.find_unless_path("runs/timm") is None
  assert table.find_unless_path(pathlib.Path("timm/inception_v4")) is table.find(
    "timm/inception_v4"
  )
  with pytest.raises(UserError, match=r"There are no published weights 'timm/run'\."):
    table.find_unless_path("timm/run")
  (tmp_path / "timm" / "run").mkdir(parents=True)
  assert table.find_unless_path("timm/run") is None
