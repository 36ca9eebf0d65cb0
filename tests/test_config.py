"""Config files, their arguments and their keys."""

import ml_collections
import pytest

from speedpaper_jax.config import (
  Listed,
  check_overrides,
  flat_keys,
  list_configs,
  load,
  parse_arguments,
)
from speedpaper_jax.errors import UserError

VALID = {"variant": ["plain", "fast"], "data": ["digits", "mnist"]}


@pytest.fixture
def config():
  return ml_collections.ConfigDict(
    {"batch_size": 8, "data": {"name": "digits", "augmentation": {"flip": False}}}
  )


class TestArguments:
  @pytest.mark.parametrize(
    ("text", "expected"),
    [
      ("", {"variant": "plain", "data": "digits"}),
      ("data=mnist", {"variant": "plain", "data": "mnist"}),
      ("data=mnist,variant=fast", {"variant": "fast", "data": "mnist"}),
    ],
  )
  def test_the_first_is_the_default(self, text, expected):
    assert parse_arguments(text, **VALID) == expected

  @pytest.mark.parametrize(
    ("text", "message"),
    [
      ("fast", "The config argument 'fast' is not of the form key=value."),
      ("dta=mnist", "The config has no argument 'dta'. Did you mean 'data'? Valid: "),
      ("data=minst", "The config has no data 'minst'. Did you mean 'mnist'? Valid: "),
      ("data=", "The config has no data ''. Valid: 'digits', 'mnist'."),
    ],
  )
  def test_mistakes(self, text, message):
    with pytest.raises(UserError) as error:
      parse_arguments(text, **VALID)
    assert str(error.value).startswith(message)


class TestLoad:
  def test_passes_the_arguments(self, tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
      "import ml_collections\n"
      "def get_config(arguments=''):\n"
      "  return ml_collections.ConfigDict({'arguments': arguments})\n"
    )
    assert load(f"{path}:x=1,y=2:3").arguments == "x=1,y=2:3"
    assert load(str(path)).arguments == ""

  def test_no_such_file(self):
    with pytest.raises(
      UserError, match=r"no config file 'bn_inception.py'. Did you mean 'configs/"
    ):
      load("bn_inception.py")

  def test_not_python(self, tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def get_config():\n  return {'a': 1\n")
    with pytest.raises(UserError, match=r"Line 2 of '.*a\.py' is not valid Python: '\{' was never"):
      load(str(path))

  def test_something_else_than_a_config(self, tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def get_config(arguments=''):\n  return {'a': 1}\n")
    with pytest.raises(UserError, match=r"returns \{'a': 1\}, which is no ConfigDict"):
      load(str(path))

  def test_no_config(self, tmp_path):
    (tmp_path / "a.py").touch()
    with pytest.raises(UserError, match="it defines no function get_config"):
      load(str(tmp_path / "a.py"))


class TestOverrides:
  @pytest.mark.parametrize(
    "argument",
    [
      "--config.batch_size=1",
      "-config.batch_size=1",
      "--config.data.augmentation.flip",
      "--noconfig.data.augmentation.flip",
      "--workdir=config.x",
      "--config=x.py",
    ],
  )
  def test_valid(self, config, argument):
    check_overrides(config, ["main", argument])

  @pytest.mark.parametrize(
    ("argument", "message"),
    [
      ("--config.batchsize=1", "The config has no key 'batchsize'. Did you mean 'batch_size'?"),
      ("--config.flip=1", "The config has no key 'flip'. Did you mean 'data.augmentation.flip'?"),
      ("--noconfig.data.flip", "Did you mean 'data.augmentation.flip'?"),
      ("--config.data=x", "config.data is a section; set one of its keys: data.augmentation.flip"),
      ("--config.data.name.x=1", "The config has no key 'data.name.x'."),
    ],
  )
  def test_mistakes(self, config, argument, message):
    with pytest.raises(UserError) as error:
      check_overrides(config, ["main", argument])
    assert message in str(error.value)


def test_flat_keys(config):
  assert sorted(flat_keys(config)) == ["batch_size", "data.augmentation.flip", "data.name"]


def test_list(tmp_path):
  (tmp_path / "b.py").write_text('"""Second.\n\nIt takes 90 seconds on two\nCPU cores."""\n')
  (tmp_path / "a.py").write_text('"""First.\n\n4.5 minutes on two CPU cores."""\n')
  (tmp_path / "c.py").write_text('"""Third."""\n')
  (tmp_path / "d.py").touch()
  assert list_configs(str(tmp_path)) == [
    Listed(tmp_path / "a.py", "First.", 4.5),
    Listed(tmp_path / "b.py", "Second.", 1.5),
    Listed(tmp_path / "c.py", "Third.", None),
  ]


def test_every_config_says_how_long_it_takes():
  listed = list_configs()
  assert listed
  assert [config.path for config in listed if config.minutes is None] == []
