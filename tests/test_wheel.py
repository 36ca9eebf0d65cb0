"""The wheel, installed where nothing is but what it requires: see `environments`."""

import re
import zipfile

import pytest
from commands import ROOT
from environments import Environment, build_wheel

from speedpaper_jax.papers.networks import NETWORKS as NAMES

pytestmark = pytest.mark.slow

NETWORKS = """
import jax, jax.numpy as jnp
from speedpaper_jax import models
from speedpaper_jax.models import registry

for name in registry.MODELS:
  network = models.create(name, num_classes=10)
  images = jnp.zeros((1, 299, 299, 3))
  init = lambda key: network.init_with_output(key, images, train=False)
  logits, variables = jax.eval_shape(init, jax.random.key(0))
  print(name, logits.shape)
"""
IMPORT = """
import importlib, pkgutil
import speedpaper_jax

for module in pkgutil.walk_packages(speedpaper_jax.__path__, "speedpaper_jax."):
  if module.name.startswith({prefixes!r}):
    importlib.import_module(module.name)
    print(module.name)
"""
DRAWING = (
  "speedpaper_jax.descriptions",
  "speedpaper_jax.explanations",
  "speedpaper_jax.files",
  "speedpaper_jax.papers",
  "speedpaper_jax.report",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, wheel):
  """Without extras."""
  return Environment(tmp_path_factory.mktemp("alone"), wheel)


@pytest.fixture(scope="module")
def reports(tmp_path_factory, wheel):
  return Environment(tmp_path_factory.mktemp("reports"), wheel, "reports")


@pytest.fixture(scope="module")
def train(tmp_path_factory, wheel):
  return Environment(tmp_path_factory.mktemp("train"), wheel, "train")


def succeeds(ended):
  assert ended.returncode == 0, ended.stdout + ended.stderr
  return ended.stdout


def names_the_extra(ended, package, extra):
  assert ended.stderr == (
    f"error: The package {package} is not installed; "
    f'`pip install "speedpaper_jax[{extra}]"` brings it.\n'
  )
  assert ended.returncode == 1


def files_below(directory):
  """Relative to the root, without what Python leaves."""
  found = (path.relative_to(ROOT) for path in (ROOT / directory).rglob("*") if path.is_file())
  return {str(path) for path in found if "__pycache__" not in path.parts}


def test_has_every_file_of_the_package_and_no_other(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  assert {name for name in names if ".dist-info/" not in name} == files_below("speedpaper_jax")


def test_has_the_licence(wheel):
  (name,) = (each for each in zipfile.ZipFile(wheel).namelist() if each.endswith("/LICENSE"))
  assert zipfile.ZipFile(wheel).read(name) == (ROOT / "LICENSE").read_bytes()


class TestWithoutExtras:
  def test_shows_nothing_else(self, alone):
    ended = alone.run("-c", "import ml_collections")
    assert "No module named 'ml_collections'" in ended.stderr

  def test_makes_the_networks(self, alone):
    lines = succeeds(alone.run("-c", NETWORKS)).splitlines()
    assert lines == [f"{name} (1, 10)" for name in NAMES]

  def test_explains(self, alone):
    output = succeeds(alone.run("-m", "speedpaper_jax.explain", "bn"))
    assert re.search(r"\nAll \d+ checks are ok\.\n$", output)

  def test_describes(self, alone):
    output = succeeds(alone.run("-m", "speedpaper_jax.describe", "--model=googlenet"))
    assert output.startswith("googlenet (paper), images of 224×224")

  @pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
      (("main", "--config=x.py"), "ml_collections", "train"),
      (("main", "--list"), "ml_collections", "train"),
      (("evaluate", "run"), "PIL", "train"),
      (("predict", "run", "image.png"), "PIL", "train"),
      (("data.prepare", "mnist"), "tensorflow_datasets", "train"),
      (("compile_check", "--config=x.py", "--topology=v5e:4x4"), "ml_collections", "train"),
      (("report", "run"), "ml_collections", "train"),
      (("convert", "--model=inception_v4", "--weights=a", "--out=b"), "ml_collections", "train"),
      (("features", "run", "image.png", "--out=x.npz"), "PIL", "train"),
      (("export", "run", "--out=x"), "flatbuffers", "train"),
      (("weights",), "PIL", "train"),
      (("explain", "bn", "--plot=bn.png"), "matplotlib", "reports"),
      (("describe", "--model=bn_inception", "--plot=bn.png"), "matplotlib", "reports"),
    ],
  )
  def test_names_the_extra_that_a_command_lacks(self, alone, command, package, extra):
    module, *arguments = command
    (alone.home / "image.png").touch()
    ended = alone.run("-m", f"speedpaper_jax.{module}", *arguments)
    names_the_extra(ended, package, extra)
    assert not ended.stdout


class TestReports:
  def test_has_what_they_import(self, reports):
    assert "speedpaper_jax.reports.rendering" in succeeds(
      reports.run("-c", IMPORT.format(prefixes=DRAWING))
    )

  def test_draws(self, reports):
    succeeds(reports.run("-m", "speedpaper_jax.explain", "bn", "--plot=bn.png"))
    assert (reports.home / "bn.png").stat().st_size

  def test_leaves_training_out(self, reports):
    ended = reports.run("-m", "speedpaper_jax.main", f"--config={ROOT}/configs/bn_inception.py")
    names_the_extra(ended, "grain", "train")


class TestTrain:
  def test_has_what_the_package_imports(self, train):
    output = succeeds(train.run("-c", IMPORT.format(prefixes="speedpaper_jax")))
    assert "speedpaper_jax.training.train" in output

  def test_knows_where_torch_comes_from(self, train):
    (train.home / "weights.pth").write_bytes(b"PK\3\4")
    flags = ("--model=inception_v4", "--weights=weights.pth", "--out=model")
    ended = train.run("-m", "speedpaper_jax.convert", *flags)
    assert ended.stderr.endswith('install it: `pip install "speedpaper_jax[torch]"`.\n')
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)

  def test_runs_an_experiment_to_its_report(self, train):
    flags = (f"--config={ROOT}/configs/bn_fc.py", "--config.epochs=1", "--workdir=run")
    succeeds(train.run("-m", "speedpaper_jax.main", *flags))
    assert (train.home / "run" / "report.html").stat().st_size
