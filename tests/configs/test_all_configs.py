"""What all configs have in common; those of training their data sets too, and that it starts.

Each network has the config of its name: of training it, or of a comparison of several.
"""

import ast
import pathlib
import re

import jax
import pytest
from config_checks import CLASSES, check_shapes, check_values, epochs

from speedpaper_jax import experiments
from speedpaper_jax.config.experiments import EXPERIMENTS
from speedpaper_jax.config.files import load
from speedpaper_jax.distributed import parallel
from speedpaper_jax.errors import UserError
from speedpaper_jax.papers.networks import NETWORKS
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

ALL_NAMES = sorted(path.stem for path in pathlib.Path("configs").glob("*.py"))
COMPARED = ["small_inception"]
NAMES = [name for name in ALL_NAMES if name in NETWORKS and name not in COMPARED]
NAMED = pytest.mark.parametrize("name", NAMES)


def config_of(name, data):
  return load(f"configs/{name}.py:data={data}")


@pytest.mark.parametrize("name", ALL_NAMES)
def test_its_experiment_exists(name):
  assert callable(experiments.get(load(f"configs/{name}.py").experiment))


@pytest.mark.parametrize("name", sorted({*EXPERIMENTS} - {"train", "ensemble"}))
def test_every_experiment_of_one_config_has_that_of_its_name(name):
  assert load(f"configs/{name}.py").experiment == name


@pytest.mark.parametrize("name", ["bn_ensemble", "inception_ensemble"])
def test_those_of_ensembles_have_their_name(name):
  assert load(f"configs/{name}.py").experiment == "ensemble"


@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_commands_in_its_docstring_name_it(name):
  docstring = ast.get_docstring(ast.parse(pathlib.Path(f"configs/{name}.py").read_text()))
  commands = re.findall(r"--config=(\S+)", docstring)
  assert commands
  for command in commands:
    assert command.partition(":")[0] == f"configs/{name}.py"
    load(command)


def test_every_network_has_one():
  assert {*NAMES, *COMPARED} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_of_the_network_of_its_name(name):
  config = load(f"configs/{name}.py")
  assert (config.base if name in COMPARED else config).model.name == name


@NAMED
def test_digits_are_the_default(name):
  assert load(f"configs/{name}.py") == config_of(name, "digits")


@NAMED
@pytest.mark.parametrize("data", CLASSES)
def test_values(name, data):
  config = config_of(name, data)
  check_values(config, data)
  assert epochs(config.checkpoint_every) > 0


@NAMED
@pytest.mark.parametrize("data", ["digits", "imagenet2012"])
def test_shapes(name, data):
  check_shapes(config_of(name, data), data)


@NAMED
@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_digits_are_not_mirrored(name, data):
  assert not config_of(name, data).data.augmentation.flip


@NAMED
@pytest.mark.parametrize(("data", "fraction"), [("digits", 1 / 16), ("cifar10", 1 / 8)])
def test_shifts_grow_with_the_image(name, data, fraction):
  section = config_of(name, data).data
  assert section.augmentation.shift == round(fraction * section.image_size)


@NAMED
def test_a_misspelt_data_set(name):
  with pytest.raises(UserError, match=r"has no data 'cifar'\. Did you mean 'cifar10'\?"):
    config_of(name, "cifar")


@NAMED
def test_shorter_runs_go_through_the_same_rates(name):
  """The decay interval is the same fraction of every run."""
  fractions = [
    float(config.optimizer.schedule.interval.split()[0]) / float(config.duration.split()[0])
    for config in (config_of(name, data) for data in CLASSES)
  ]
  assert fractions == pytest.approx([fractions[-1]] * len(fractions), rel=1e-5)


@pytest.fixture
def one_device(monkeypatch):
  mesh = jax.make_mesh(
    (1,), (parallel.AXIS,), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
  )
  monkeypatch.setattr(parallel, "make_mesh", lambda devices=None: mesh)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bn_inception"])
def test_training(name, tmp_path):
  config = config_of(name, "digits")
  config.update_from_flattened_dict(
    {
      "batch_size": 4,
      "eval_batch_size": 4,
      "data.train_split": "train[:8]",
      "data.eval_split": "test[:6]",
      "duration": "2 steps",
      "log_every": "1 steps",
      "eval_every": "0 steps",
      "checkpoint_every": "0 steps",
    }
  )
  directory = RunDirectory(tmp_path)
  summary = train.run(config, directory)
  assert summary["steps"] == 2
  assert summary["eval"]["count"] == 6
  assert [entry["step"] for entry in directory.metrics() if entry["split"] == "train"] == [1, 2]
