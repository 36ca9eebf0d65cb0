"""A run that was killed and started again by the same command ends as if nothing had happened."""

import json
import re

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from commands import MAIN, TINY, flags, kill, run, start, wait_for_step, wait_until

from benchmarks.survive_kills import TIMINGS
from speedpaper_jax.storage import sessions
from speedpaper_jax.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(scratch, tmp_path_factory):
  """The directory of a run of the tiny network."""
  workdir = tmp_path_factory.mktemp("uninterrupted")
  run(scratch, *TINY, f"--workdir={workdir}", *flags())
  return workdir


def is_being_written(workdir, step):
  """Whether Orbax has begun to write a checkpoint, under another name, and not ended."""
  checkpoints = workdir / "checkpoints"
  return any(checkpoints.glob(f"{step}.*tmp*")) and not (checkpoints / str(step)).exists()


def kill_during_checkpoint(command, workdir, step):
  """Starts a run and kills it while it writes the checkpoint of `step`."""
  for _ in range(10):
    process = command()
    wait_until(
      process,
      lambda: is_being_written(workdir, step) or (workdir / "checkpoints" / str(step)).exists(),
    )
    kill(process)
    if is_being_written(workdir, step):
      return
    # It was whole already: back to the one before.
    for path in (workdir / "checkpoints").glob(f"{step}*"):
      path.rename(workdir / f"too late {path.name}")
  pytest.fail("the process was never caught in the middle of writing")


def assert_same_end(workdir, other):
  """All that two runs of 12 steps have come to is the same, bit for bit."""
  with ocp.StandardCheckpointer() as checkpointer:
    state, expected = (
      checkpointer.restore(path / "checkpoints" / "12" / "weights")
      | checkpointer.restore(path / "checkpoints" / "12" / "training")
      for path in (workdir, other)
    )
  assert expected["average"]["params"]
  assert expected["average"]["batch_stats"]
  assert {"step", "examples", "params", "batch_stats", "opt_state"} <= expected.keys()
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  for leaf, expected_leaf in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
    assert np.asarray(leaf).tobytes() == np.asarray(expected_leaf).tobytes()
  assert summary(workdir)["eval"] == summary(other)["eval"]
  assert metrics(workdir) == metrics(other)
  assert [entry["step"] for entry in metrics(workdir)] == [*range(1, 13), 12]
  assert not list((workdir / "checkpoints").glob("*tmp*"))


def summary(workdir):
  return json.loads((workdir / "summary.json").read_text())


def metrics(workdir):
  """What metrics.jsonl says, without what depends on the speed of the machine."""
  entries = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [{key: entry[key] for key in entry.keys() - TIMINGS} for entry in entries]


def resumed_after(output):
  match = re.search(r"^resuming after step (\d+)$", output, re.MULTILINE)
  return int(match[1]) if match else None


def test_killed_before_the_first_checkpoint(scratch, uninterrupted, tmp_path):
  command = (*TINY, f"--workdir={tmp_path}", *flags())
  process = start(scratch, *command)
  wait_for_step(process, 2)
  kill(process)
  assert resumed_after(run(scratch, *command)) is None
  assert_same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize(
  ("step", "saved"),
  [pytest.param(6, 4, id="between checkpoints"), pytest.param(12, 12, id="during the evaluation")],
)
def test_killed_after_a_checkpoint(scratch, uninterrupted, tmp_path, step, saved):
  command = (*TINY, f"--workdir={tmp_path}", *flags())
  process = start(scratch, *command)
  wait_for_step(process, step)
  wait_until(process, (tmp_path / "checkpoints" / str(saved)).exists)
  kill(process)
  assert not (tmp_path / "checkpoints" / str(saved + 4)).exists()
  assert resumed_after(run(scratch, *command)) == saved
  assert_same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("step", [4, 8])
def test_killed_during_a_checkpoint(scratch, uninterrupted, tmp_path, step):
  command = (*TINY, f"--workdir={tmp_path}", *flags())
  kill_during_checkpoint(lambda: start(scratch, *command), tmp_path, step)
  assert resumed_after(run(scratch, *command)) == (step - 4 or None)
  assert_same_end(tmp_path, uninterrupted)


def test_on_cpus_deterministic_makes_no_difference(scratch, uninterrupted, tmp_path):
  """But for what is recorded of the run."""
  command = (*TINY, f"--workdir={tmp_path}", "--deterministic", *flags())
  process = start(scratch, *command)
  wait_for_step(process, 6)
  wait_until(process, (tmp_path / "checkpoints" / "4").exists)
  kill(process)
  assert resumed_after(run(scratch, *command)) == 4
  assert_same_end(tmp_path, uninterrupted)
  found = sessions.read(RunDirectory(tmp_path))
  assert [session.deterministic for session in found] == [True, True]
  assert all(" --deterministic " in session.command for session in found)
  assert " --deterministic " in summary(tmp_path)["command"]
  (before,) = sessions.read(RunDirectory(uninterrupted))
  assert not before.deterministic


def test_started_again_after_its_end(scratch, uninterrupted, tmp_path):
  command = (*TINY, f"--workdir={tmp_path}", *flags())
  run(scratch, *command)
  run(scratch, *command)
  assert_same_end(tmp_path, uninterrupted)


def test_bn_inception_killed_twice(scratch, tmp_path):
  first, second = tmp_path / "uninterrupted", tmp_path / "killed"
  run(scratch, *MAIN, f"--workdir={first}", *flags(data__image_size=32))
  command = (*MAIN, f"--workdir={second}", *flags(data__image_size=32))
  process = start(scratch, *command)
  wait_for_step(process, 6)
  wait_until(process, (second / "checkpoints" / "4").exists)
  kill(process)
  kill_during_checkpoint(lambda: start(scratch, *command), second, 12)
  assert resumed_after(run(scratch, *command)) == 8
  assert_same_end(second, first)
