"""Flags of all commands: `--help` describes them, mistakes are told in a sentence."""

import importlib
import re

import pytest
from commands import MODULES, ROOT

from speedpaper_jax import compare, convert, describe, evaluate, explain, main, predict, reproduce
from speedpaper_jax.command_line import entry_point, host_flags
from speedpaper_jax.errors import UserError

# What a command needs besides the flag that is tried out.
NEEDED = {
  "benchmarks.beside_preprocessing": ["x"],
  "benchmarks.beside_pytorch_fid": ["--folder=x"],
  "benchmarks.input": ["--images=x"],
  "speedpaper_jax.compile_check": ["--config=configs/bn_inception.py", "--topology=v5e:4x4"],
  "speedpaper_jax.convert": ["--weights=a", "--out=b"],
  "speedpaper_jax.data.prepare": ["digits"],
  "speedpaper_jax.evaluate": ["run"],
  "speedpaper_jax.explain": ["bn"],
  "speedpaper_jax.export": ["run", "--out=x"],
  "speedpaper_jax.features": ["run", "x.png", "--out=x.npz"],
  "speedpaper_jax.fid": ["a", "b"],
  "speedpaper_jax.main": ["--config=configs/bn_inception.py"],
  "speedpaper_jax.predict": ["run", "x.png"],
  "speedpaper_jax.report": ["run"],
}
TAKE_ANY_NUMBER = {  # of arguments
  "benchmarks.convolutions",
  "benchmarks.exported",
  *(
    f"speedpaper_jax.{command}"
    for command in ("evaluate", "features", "fid", "predict", "report", "reproduce", "weights")
  ),
}
# Of flags that a number will not do for.
VALUE = {
  "--config": "configs/bn_inception.py:data=mnist",
  "--against": "flax",
  "--crops": "10",
  "--device": "cpu",
  "--dtype": "float32",
  "speedpaper_jax.benchmark --dtype": "bfloat16",
  "speedpaper_jax.export --dtype": "bfloat16",
  "speedpaper_jax.features --dtype": "bfloat16",
  "--inputs": "normalized",
  "--interpolation": "bilinear_tensorflow1",
  "--scales": "grown",
  "--statistics": "population",
  "benchmarks.imagenet_index --images": "20000",
  "--table": "crops",
  "--to": "torch",
}
# "  --model NAME   such as inception_v4": the flag, what stands for its values, what it means.
DESCRIBED = re.compile(r"^  (?:-h, )?(--\w+)((?: \S+)*)\s{2,}(\S.*)$", re.MULTILINE)


def parse(module, *arguments):
  return importlib.import_module(module).parse([module, *arguments])


def parse_whole(module, *arguments):
  """With what the command needs."""
  return parse(module, *NEEDED.get(module, []), *arguments)


@pytest.fixture
def help_of(monkeypatch, capsys):
  """What `--help` prints, in lines as wide as no description is."""
  monkeypatch.setenv("COLUMNS", "1000")

  def help_of(module):
    with pytest.raises(SystemExit) as ended:
      parse(module, "--help")
    assert ended.value.code == 0
    return capsys.readouterr().out

  return help_of


@pytest.fixture
def flags_of(help_of):
  """Flags and what stands for their values."""
  return lambda module: {
    flag: values.strip() for flag, values, _ in DESCRIBED.findall(help_of(module))
  }


class TestAllCommands:
  @pytest.mark.parametrize("module", MODULES)
  def test_are_run_alike(self, module):
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert text.endswith('\nif __name__ == "__main__":\n  entry_point.run(main, parse)\n')

  @pytest.mark.parametrize("module", MODULES)
  def test_help_describes_every_flag(self, module, help_of):
    text = help_of(module)
    usage, description, _ = text.split("\n\n", 2)
    assert usage.startswith(f"usage: python -m {module} [-h]")
    assert description.endswith(".")
    flags = {flag for flag, _, _ in DESCRIBED.findall(text)}
    assert flags == {"--help", *re.findall(r"--\w+", usage)}

  @pytest.mark.parametrize("module", MODULES)
  def test_an_unknown_flag_is_told_in_a_sentence(self, module):
    for arguments in (["--zzqqyy=7"], ["--zzqqyy", "7"], ["-z"]):
      with pytest.raises(UserError) as told:
        parse_whole(module, *arguments)
      name = arguments[0].partition("=")[0]
      assert re.fullmatch(rf"There is no flag '{name}'\.( Valid: .*'--help'.*\.)?", str(told.value))

  @pytest.mark.parametrize("module", MODULES)
  def test_a_mistyped_flag_is_told_with_the_nearest(self, module, flags_of):
    """Whatever else is missing."""
    for flag in flags_of(module):
      mistyped = flag + flag[-1]
      for arguments in ([f"{mistyped}=7"], [mistyped, "7"]):
        with pytest.raises(UserError) as told:
          parse(module, *arguments)
        question = f"There is no flag '{mistyped}'. Did you mean '{flag}'?"
        assert str(told.value).startswith(question)

  @pytest.mark.parametrize("module", MODULES)
  def test_a_flag_is_named_in_full(self, module, flags_of):
    flags = flags_of(module)
    for short in {flag[:-1] for flag in flags} - flags.keys():
      with pytest.raises(UserError, match=f"There is no flag '{short}'"):
        parse_whole(module, f"{short}=7")

  @pytest.mark.parametrize("module", MODULES)
  def test_a_value_follows_an_equals_sign_or_a_blank(self, module, flags_of):
    for flag, values in flags_of(module).items():
      if values and " " not in values:
        value = VALUE.get(f"{module} {flag}", VALUE.get(flag, "7"))
        options = parse_whole(module, flag, value)
        assert options == parse_whole(module, f"{flag}={value}")
        assert options != parse_whole(module)

  @pytest.mark.parametrize("module", MODULES)
  def test_a_value_that_is_missing_is_told(self, module, flags_of):
    for flag, values in flags_of(module).items():
      if values:
        with pytest.raises(UserError, match=rf"argument {flag}: expected .* arguments?; see"):
          parse_whole(module, flag)

  @pytest.mark.parametrize("module", sorted(set(MODULES) - TAKE_ANY_NUMBER))
  def test_an_argument_too_many_is_told(self, module):
    with pytest.raises(UserError, match=r"^'x' is (no flag|one argument)"):
      parse_whole(module, "x")

  @pytest.mark.parametrize("module", MODULES)
  def test_an_address_of_a_bucket_is_refused(self, module):
    for argument in ("gs://bucket/run", "--json=gs://bucket/run"):
      with pytest.raises(UserError, match=r"^'gs://bucket/run' is in a bucket"):
        parse_whole(module, argument)


def test_a_bucket_is_refused_as_a_field_of_the_config():
  with pytest.raises(UserError, match=r"^'gs://bucket/data' is in a bucket"):
    parse_whole("speedpaper_jax.main", "--config.data.dir=gs://bucket/data")


def test_flags_of_hosts_are_those_that_are_no_part_of_a_run():
  parser = entry_point.ArgumentParser()
  host_flags.add_to(parser)
  assert tuple(vars(parser.parse([]))) == host_flags.NAMES


COMMANDS = {
  compare: (["--model=inception_v4"], ("image_size", "num_classes", "batch_size")),
  convert: (["--weights=a", "--out=b"], ("image_size", "num_classes")),
  describe: (["--model=bn_inception"], ("image_size", "num_classes")),
  evaluate: (["run"], ("batch_size",)),
  explain: (["bn"], ("seed",)),
  predict: (["run", "x.png"], ("batch_size", "top")),
  reproduce: ([], ("batch_size", "images")),
}
NUMBERS = [(command, flag) for command, (_, flags) in COMMANDS.items() for flag in flags]
VALUES = ["-1", "1e9", "x", "", "nan", "inf", "1.5", "True", "99999999999999999999", "1" * 5000]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("command", "flag"), NUMBERS)
def test_of_commands(command, flag, value):
  arguments, _ = COMMANDS[command]
  with pytest.raises(UserError, match=rf"argument --{flag}: .*; see --help"):
    command.parse(["program", *arguments, f"--{flag}={value}"])


@pytest.mark.parametrize("value", ["-1", "1", "21", "99999999999999999999"])
def test_examples_to_explain(value):
  with pytest.raises(UserError, match=rf"--examples={value} (is too few|are too many)"):
    explain.main(explain.parse(["explain", "bn", f"--examples={value}"]))


@pytest.mark.parametrize("value", ["-1", "-1e-9", "1.5", "nan", "inf", "-inf", "1e400"])
def test_epsilon_to_explain(value):
  with pytest.raises(UserError, match=r"--epsilon=.* is not between 0 and 1"):
    explain.main(explain.parse(["explain", "bn", f"--epsilon={value}"]))


@pytest.mark.parametrize("value", ["0", "2000000"])
@pytest.mark.parametrize("command", [evaluate, predict, reproduce])
def test_images_at_a_time(command, value):
  arguments, _ = COMMANDS[command]
  with pytest.raises(
    UserError, match=rf"argument --batch_size: {value} is (below 1|above 1,048,5)"
  ):
    command.parse(["program", *arguments, f"--batch_size={value}"])


@pytest.mark.parametrize("value", ["", "x", "1.5", "nan", "1" * 5000])
@pytest.mark.parametrize("flag", ["process_count", "process_index"])
@pytest.mark.parametrize(
  ("command", "arguments"), [(evaluate, ["run"]), (main, ["--config=configs/bn_inception.py"])]
)
def test_number_of_a_process(command, arguments, flag, value):
  with pytest.raises(UserError, match=rf"argument --{flag}: invalid int value"):
    command.parse(["program", *arguments, f"--{flag}={value}"])


def test_numbers_at_the_ends_of_a_range_are_taken():
  number = entry_point.at_least(1, at_most=3)
  assert [number("1"), number("3")] == [1, 3]
