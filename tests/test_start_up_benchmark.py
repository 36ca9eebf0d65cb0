"""benchmarks/start_up.py with short programs, and that it would notice."""

import os

import pytest
from commands import MODULES, TINY, environment_of, flags

from benchmarks import start_up
from speedpaper_jax import main
from speedpaper_jax.errors import UserError
from speedpaper_jax.papers.networks import NETWORKS

PROGRAM = """
import time
print("workdir x")
print("step 1/2", flush=True)
time.sleep(1000)
"""


def test_a_process_is_ended_with_its_line():
  took = start_up.until_line(["-c", PROGRAM], os.environ, "step ")
  assert 0 < took.seconds < 1000
  assert took.processor_seconds > 0


@pytest.mark.slow
def test_training_is_ended_with_its_first_step(scratch, tmp_path):
  command = [*map(str, TINY), f"--workdir={tmp_path}", *flags(log_every="1 steps")]
  start_up.until_line(command, environment_of(scratch, 1, 1000), start_up.FIRST_STEP)
  assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
  ("program", "reason"),
  [("print('else')", "without a word"), ("raise SystemExit('no room')", "no room")],
)
def test_a_process_that_ends_without_it_is_an_error(program, reason):
  with pytest.raises(UserError, match=rf"ended before its time: {reason}$"):
    start_up.until_line(["-c", program], os.environ, "step ")


def test_the_median_is_of_each_by_itself():
  times = [start_up.Took(1, 6), start_up.Took(3, 4), start_up.Took(2, 5)]
  assert start_up.median(times) == start_up.Took(2, 5)


def test_networks_are_the_papers_with_configs_that_can_be_read(monkeypatch):
  given = []
  monkeypatch.setattr(start_up, "until_line", lambda command, *_: given.append(command))
  for network in start_up.NETWORKS:
    assert network in NETWORKS
    start_up.first_steps(network, {}, 1)
  for module, *arguments in (command[1:] for command in given):
    assert module == "speedpaper_jax.main"
    assert main.parse([module, *arguments]).config.log_every == "1 steps"


def test_commands_are_all():
  assert start_up.commands() == MODULES
