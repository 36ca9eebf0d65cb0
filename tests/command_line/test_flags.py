"""Numbers that no flag of any command takes."""

import pytest

from speedpaper_jax import compare, convert, describe, evaluate, explain, main, predict
from speedpaper_jax.command_line import entry_point
from speedpaper_jax.errors import UserError

COMMANDS = {
  compare: (["--model=inception_v4"], ("image_size", "num_classes", "batch_size")),
  convert: (["--weights=a", "--out=b"], ("image_size", "num_classes")),
  describe: (["--model=bn_inception"], ("image_size", "num_classes")),
  evaluate: (["run"], ("batch_size",)),
  explain: (["bn"], ("seed",)),
  predict: (["run", "x.png"], ("batch_size", "top")),
}
FLAGS = [(command, flag) for command, (_, flags) in COMMANDS.items() for flag in flags]
VALUES = ["-1", "1e9", "x", "", "nan", "inf", "1.5", "True", "99999999999999999999", "1" * 5000]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("command", "flag"), FLAGS)
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
@pytest.mark.parametrize("command", [evaluate, predict])
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
