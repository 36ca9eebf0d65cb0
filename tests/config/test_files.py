"""Config files, their arguments and their keys."""

import ml_collections
import pytest

from speedpaper_jax.config import files as config_module
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.files import (
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

  @pytest.mark.parametrize(
    ("content", "message"),
    [
      (b"x = 1 +", r"Line 1 of '.*a\.py' is not valid Python: "),
      (b"x = '\xff'", r"a\.py'.* codec can't decode"),
      (b"x = '\0'", r"a\.py'.* null bytes"),
      (b"import no_such_module", r"line 1 of '.*a\.py' fails \(ModuleNotFoundError: No module na"),
      (b"x = 1\nraise RuntimeError('at once\\nor later')", r"line 2 of .*RuntimeError: at once\)"),
      (b"import sys\nsys.exit(0)", r"line 2 of .* fails \(SystemExit: 0\)"),
      (b"def get_config():\n  return 3", r"a\.py' fails \(TypeError: get_config\(\) takes 0 "),
      (b"def get_config(arguments):\n  return {}[arguments]", r"line 2 of .* \(KeyError: ''\)"),
      (b"def get_config(arguments):\n  return get_config(arguments)", r"line 2 of .*RecursionErro"),
      (b"get_config = 3", r"a\.py' fails \(TypeError: 'int' object is not callable"),
    ],
  )
  def test_a_file_that_fails(self, tmp_path, content, message):
    (tmp_path / "a.py").write_bytes(content)
    with pytest.raises(UserError, match=message):
      load(str(tmp_path / "a.py"))

  def test_a_file_that_refuses_its_arguments_says_so_itself(self):
    with pytest.raises(UserError, match=r"^The config has no data 'minst'. Did you mean 'mnist'"):
      load("configs/bn_inception.py:data=minst")

  @pytest.mark.parametrize("path", ["", "a\0b", "a" * 5000, "configs"])
  def test_a_path_that_cannot_be_one(self, path):
    with pytest.raises(UserError, match="There is no config file"):
      load(path)

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
      ("--config.bs=1", "The config has no key 'bs'. Did you mean 'batch_size'?"),
      ("--config.dataset=x", "The config has no key 'dataset'. Did you mean 'data.name'?"),
      ("--config.data=x", "config.data is a section; set one of its keys: data.augmentation.flip"),
      ("--config.data.name.x=1", "The config has no key 'data.name.x'."),
    ],
  )
  def test_mistakes(self, config, argument, message):
    with pytest.raises(UserError) as error:
      check_overrides(config, ["main", argument])
    assert message in str(error.value)

  @pytest.mark.parametrize(
    ("key", "nearest"),
    [
      ("optimizer.lr", "optimizer.learning_rate"),
      ("lr", "optimizer.learning_rate"),
      ("optimizer.LR", "optimizer.learning_rate"),
      ("optimizer.rate", "optimizer.learning_rate"),
      ("wd", "optimizer.l2"),
      ("optimizer.weight_decay", "optimizer.l2"),
      ("l2", "optimizer.l2"),
      ("epochs", "duration"),
      ("steps", "duration"),
      ("dropout", "model.dropout_rate"),
      ("batch_norm.eps", "batch_norm.epsilon"),
      ("bn_momentum", "batch_norm.decay"),
      ("optimizer.schedule.warmup_steps", "optimizer.schedule.warmup"),
      ("ema_decay", "average_decay"),
      ("grad_clip", "optimizer.clip_norm"),
      ("model.img_size", "data.image_size"),
      ("optimizer.nme", "optimizer.name"),
      ("optimiser.name", "optimizer.name"),
      ("dat.name", "data.name"),
    ],
  )
  def test_what_a_field_is_called_elsewhere(self, key, nearest):
    with pytest.raises(UserError, match=rf"has no key '{key}'\. Did you mean '{nearest}'\?"):
      check_overrides(train_config(), ["main", f"--config.{key}=1"])

  def test_what_fields_are_called_elsewhere_are_no_fields_but_mean_some(self):
    fields = list(flat_keys(train_config()))
    for name, means in config_module._SYNONYMS.items():
      assert name not in fields
      assert any(f".{field}".endswith(f".{means}") for field in fields), means


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


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"def get_config(:", "invalid syntax"),
    (b'"""First."""\nx = "\xff"', "codec can't decode"),
    (b"x = '\0'", "null bytes"),
    (b"(" * 10_000, "too many nested parentheses"),
    (None, "Is a directory"),
  ],
)
def test_a_broken_file_breaks_neither_the_list_nor_a_hint(
  tmp_path, monkeypatch, capsys, content, reason
):
  monkeypatch.chdir(tmp_path)
  configs = tmp_path / "configs"
  configs.mkdir()
  (configs / "good.py").write_text('"""First.\n\n4.5 minutes on two CPU cores."""\n')
  broken = configs / "broken.py"
  if content is None:
    broken.mkdir()
  else:
    broken.write_bytes(content)
  assert [config.line for config in list_configs()] == ["First."]
  told = capsys.readouterr().err
  assert told.startswith("warning: the config 'configs/broken.py' is left out: ")
  assert reason in told
  for name in ("good", "broken"):
    with pytest.raises(UserError, match=rf"Did you mean 'configs/{name}\.py'"):
      load(f"config/{name}.py")
  assert not capsys.readouterr().err


@pytest.mark.parametrize("text", ["1.2.3 minutes on two CPU cores", ". minutes on two CPU cores"])
def test_minutes_that_are_no_number(tmp_path, text):
  (tmp_path / "a.py").write_text(f'"""First.\n\n{text}."""')
  list_configs(str(tmp_path))


def test_every_config_says_how_long_it_takes():
  listed = list_configs()
  assert listed
  assert [config.path for config in listed if config.minutes is None] == []
