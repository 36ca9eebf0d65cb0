"""A trace of some steps."""

import gzip
import json

import jax.numpy as jnp
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.training.profiling import Profiler
from speedpaper_jax.training.traced_steps import Steps


def test_steps_are_read():
  assert Steps.parse("10,12") == Steps(10, 12)
  assert Steps.parse("3,3") == Steps(3, 3)


@pytest.mark.parametrize("text", ["", "10", "12,10", "0,3", "a,b", "1,2,3", "-1,3"])
def test_what_names_no_steps_is_refused(text):
  with pytest.raises(UserError, match=r"--profile=.* does not name steps; .* --profile=10,12"):
    Steps.parse(text)


def take_steps(profiler, count, first=1):
  """What is said after each step."""
  said = {}
  for step in range(first, count + 1):
    profiler.before(step)
    jnp.arange(step).sum().block_until_ready()
    if profiler.ends_with(step):
      said[step] = profiler.stop()
  profiler.close()
  return said


def perfetto_trace(directory):
  (path,) = directory.rglob("perfetto_trace.json.gz")
  return json.loads(gzip.decompress(path.read_bytes()))


def test_the_chosen_steps_are_traced(tmp_path):
  said = take_steps(Profiler(Steps(2, 3), tmp_path), 4)
  assert said.keys() == {3}
  assert f"tensorboard --logdir={tmp_path}" in said[3]
  assert list(tmp_path.rglob("*.xplane.pb"))
  assert perfetto_trace(tmp_path)["traceEvents"]


def test_a_run_that_ends_before_leaves_its_trace(tmp_path):
  assert take_steps(Profiler(Steps(2, 30), tmp_path), 4) == {}
  assert perfetto_trace(tmp_path)["traceEvents"]


def test_a_run_that_goes_on_among_the_steps_traces_the_rest(tmp_path):
  assert take_steps(Profiler(Steps(2, 4), tmp_path), 5, first=3).keys() == {4}
  assert perfetto_trace(tmp_path)["traceEvents"]


@pytest.mark.parametrize("first", [1, 8])
def test_that_none_of_the_steps_was_taken_is_told(tmp_path, capsys, first):
  assert take_steps(Profiler(Steps(6, 7), tmp_path), first + 2, first) == {}
  assert capsys.readouterr().err == (
    "warning: nothing is traced: --profile names the steps 6 to 7, of which none was taken.\n"
  )
  assert list(tmp_path.iterdir()) == []


def test_without_steps_nothing_is_written(tmp_path):
  assert take_steps(Profiler(None, tmp_path), 4) == {}
  assert list(tmp_path.iterdir()) == []
