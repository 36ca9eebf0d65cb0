"""Training by several processes on loopback: the same bits as by one, whatever happens to them."""

import contextlib
import json
import os
import re
import shutil
import signal
import time

import bad_images
import numpy as np
import pytest
from commands import ROOT, TINY, finish, flags, launch, start, wait_until

from benchmarks import survive_kills
from speedpaper_jax.data.pipeline import order
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow

DEVICES = 4
PATIENCE = 15  # seconds
CONFIG = f"--config={ROOT}/configs/bn_inception.py"


def train(scratch, workdir, processes, devices=DEVICES, seconds_per_step=0.0, **changes):
  """Starts a run of the tiny network on so many devices in all."""
  return launch(
    scratch,
    CONFIG,
    f"--workdir={workdir}",
    f"--patience={PATIENCE}",
    *flags(
      eval_every="6 steps",
      data__eval_central_fraction=0.8,
      evaluate_ten_crops=True,
      record_answers=True,
      **changes,
    ),
    program=TINY[0],
    processes=processes,
    devices=devices // processes,
    seconds_per_step=seconds_per_step,
    grace=4 * PATIENCE,
  )


def completed(process):
  """What was printed to standard output by a run that must succeed."""
  status, output, errors = finish(process)
  assert status == 0, output + errors
  return output


def assert_same_end(workdir, other):
  assert not survive_kills.differences(RunDirectory(other), RunDirectory(workdir))


@pytest.fixture(scope="module")
def alone(scratch, tmp_path_factory):
  """The directory of a run of one process."""
  workdir = tmp_path_factory.mktemp("alone")
  completed(train(scratch, workdir, processes=1))
  return workdir


@pytest.mark.parametrize("processes", [2, 4])
def test_the_number_of_processes_makes_no_difference(scratch, alone, tmp_path, processes):
  output = completed(train(scratch, tmp_path, processes))
  assert_same_end(tmp_path, alone)
  assert output.count("step  1/12 ") == 1, "one process alone prints"
  summary, of_one = (json.loads((path / "summary.json").read_text()) for path in (tmp_path, alone))
  assert summary["ten_crops"] == of_one["ten_crops"]
  for name in ("predictions.json", "arrays.npz"):
    assert (tmp_path / name).read_bytes() == (alone / name).read_bytes()
  assert summary["machine"]["devices"] == f"4 × cpu of {processes} processes"
  assert summary["command"].startswith(
    f"python -m speedpaper_jax.main {CONFIG} --workdir={tmp_path} --config.data"
  )


def test_two_processes_evaluate_what_one_has_trained(scratch, alone, tmp_path):
  """As one process does, and as after the last step of its training; one writes the result."""
  evaluate = (ROOT / "tests" / "tiny_evaluate.py", alone, f"--json={tmp_path}/of_one.json")
  completed(start(scratch, *evaluate, devices=DEVICES))
  of_one = json.loads((tmp_path / "of_one.json").read_text())
  process = launch(
    scratch,
    alone,
    f"--workdir={tmp_path}",  # for the launcher
    f"--json={tmp_path}/result.json",
    program=ROOT / "tests" / "tiny_evaluate.py",
    devices=DEVICES // 2,
  )
  assert completed(process).count("(355 images)") == 1
  result = json.loads((tmp_path / "result.json").read_text())
  summary = json.loads((alone / "summary.json").read_text())
  loss = result.pop("loss")
  assert loss == pytest.approx(of_one.pop("loss"), rel=1e-14)
  assert result == of_one
  expected = {"step": 12, "data": "digits", "split": "test", **summary["eval"]}
  # In training batch normalization is not folded into the layers before.
  assert loss == pytest.approx(expected.pop("loss"), rel=1e-6)
  assert {name: result[name] for name in expected} == expected


def test_two_processes_evaluate_an_ensemble(scratch, alone, tmp_path):
  """Of a network and its copy, which is as good as the network."""
  shutil.copytree(alone, tmp_path / "copy")
  process = launch(
    scratch,
    alone,
    tmp_path / "copy",
    f"--workdir={tmp_path}",  # for the launcher
    f"--json={tmp_path}/result.json",
    f"--probabilities={tmp_path}/result.npz",
    program=ROOT / "tests" / "tiny_evaluate.py",
    devices=DEVICES // 2,
  )
  assert completed(process).count("(355 images)") == 3
  result = json.loads((tmp_path / "result.json").read_text())
  expected = json.loads((tmp_path / "copy" / "summary.json").read_text())["eval"]
  assert result["ensemble"] == {**expected, "loss": pytest.approx(expected["loss"], rel=1e-6)}
  with np.load(tmp_path / "result.npz") as file:
    first, second = file["probabilities"]
  np.testing.assert_array_equal(first, second)


def wait_for_checkpoint(process, workdir, step):
  wait_until(process, (workdir / "checkpoints" / str(step)).exists)


def processes_of(process):
  """Process numbers, from the launcher's first line."""
  return [int(pid) for pid in re.findall(r"\d+", process.stderr.readline())[1:]]


@pytest.mark.parametrize("then", [1, 4], ids="on_{}".format)
def test_a_notice_to_one_saves_all_and_others_go_on(scratch, alone, tmp_path, then):
  """Stopped on 2 processes, continued on 1 and on 4 with the same devices in all."""
  process = train(scratch, tmp_path, processes=2, seconds_per_step=0.5)
  pids = processes_of(process)
  wait_for_checkpoint(process, tmp_path, 4)
  os.kill(pids[1], signal.SIGTERM)
  status, _, errors = finish(process)
  assert status == 75
  (step,) = set(re.findall(r"Stopped by a notice to all processes after step (\d+)", errors))
  assert errors.count(f"after step {step}. The same command with the same --workdir") == 2
  assert survive_kills.newest(RunDirectory(tmp_path)) == int(step) < 12
  assert not (tmp_path / "summary.json").exists()

  output = completed(train(scratch, tmp_path, processes=then))
  assert f"resuming after step {step}\n" in output
  assert_same_end(tmp_path, alone)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_lost_the_others_end_in_time(scratch, tmp_path, number, victim):
  process = train(scratch, tmp_path, processes=2, seconds_per_step=0.5, duration="200 steps")
  pids = processes_of(process)
  wait_for_checkpoint(process, tmp_path, 4)
  os.kill(pids[victim], number)
  began = time.monotonic()
  wait_until(process, lambda: not is_running(pids[1 - victim]))
  assert time.monotonic() < began + 3 * PATIENCE
  with contextlib.suppress(ProcessLookupError):
    os.kill(pids[victim], signal.SIGKILL)
  status, _, errors = finish(process)
  assert status == 75, errors


def is_running(pid):
  """Whether a process has not ended; one that nobody has waited for is a zombie, Z."""
  try:
    with open(f"/proc/{pid}/stat") as file:
      return file.read().rpartition(")")[2].split()[0] != "Z"
  except (FileNotFoundError, ProcessLookupError):  # the latter where it ends while it is read
    return False


def test_processes_that_stand_still_end(scratch, tmp_path):
  """Although they give signs of life: here they sleep after each step."""
  process = train(scratch, tmp_path, processes=2, seconds_per_step=1000)
  status, _, errors = finish(process)
  assert status == 75
  assert errors.count("Nothing has happened for ") >= 1
  assert "in step 1" in errors or "in step 2" in errors


def test_images_that_cannot_be_decoded(scratch, tmp_path):
  """Each process reads its own rows; they count together, and stop together."""
  images = {**bad_images.bad(), **bad_images.good(11)}
  bad_images.write_folder(tmp_path / "images", images)

  def begin(share):
    return launch(
      scratch,
      f"{CONFIG}:data=folder",
      f"--workdir={tmp_path / 'run'}",
      f"--patience={PATIENCE}",
      *flags(
        data__dir=tmp_path / "images",
        data__largest_undecodable_share=share,
        log_every="4 steps",
      ),
      program=TINY[0],
      processes=2,
      devices=2,
      grace=4 * PATIENCE,
    )

  split = open_split("folder", "train", str(tmp_path / "images"))
  paths = [split.records.short_name(int(number)) for number in order(split, 0)[: 12 * 8]]
  bad = [
    (row // 8 + 1, path)
    for row, path in enumerate(paths)
    if os.path.basename(path) in bad_images.REASONS
  ]
  known = {path: step for step, path in reversed(bad)}

  status, _, errors = finish(begin(share=0.2))
  assert status == 1, errors
  sentences = re.findall(r"error: (\d+ of the last \d+ training images, up to step .*)", errors)
  assert len(sentences) == 2, errors
  assert sentences[0] == sentences[1]
  last = bad[int(0.2 * 96)][0]
  assert f"up to step {last}, " in sentences[0]
  directory = RunDirectory(tmp_path / "run")
  found = {image.name: image.step for image in undecodable.read(directory)}
  assert found == {path: step for path, step in known.items() if step <= last}

  completed(begin(share=0.5))
  lines = [entry for entry in directory.metrics() if entry["split"] == "train"]
  assert {line["step"]: line["left_out"] for line in lines} == {
    end: sum(end - 4 < step <= end for step, _ in bad) for end in (4, 8, 12)
  }
  assert lines[-1]["undecodable_images"] == len(known) == 5
  assert {image.name: image.step for image in undecodable.read(directory)} == known


def test_kills_at_any_moment_do_no_harm(scratch):
  """benchmarks/survive_kills.py in a small form."""
  process = start(
    scratch,
    "-m",
    "benchmarks.survive_kills",
    "--kills=3",
    "--steps=40",
    f"--program={TINY[0]}",
    "--",
    CONFIG,
    *flags(),
  )
  output = completed(process)
  assert output.count("\nkill ") == 3
  assert output.endswith("state, evaluation and metrics are the same, bit for bit\n")


def test_a_disk_on_which_nothing_more_can_be_written(scratch, tmp_path):
  """A limit to the size of files stands for a full disk; tmpfs would ask for rights."""
  limited = (
    "import resource, runpy, sys; sys.argv = sys.argv[1:];"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY));"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
  )
  command = (TINY[0], CONFIG, f"--workdir={tmp_path}", *flags(data__image_size=64))
  status, _, errors = finish(start(scratch, *command, "--config.duration=4 steps"))
  assert status == 0, errors
  before = (tmp_path / "checkpoints" / "4" / "record" / "metadata").read_text()
  status, _, errors = finish(start(scratch, "-c", limited, *command))
  assert status == 1
  assert "could not be written" in errors
  assert "that of step 4 is kept" in errors
  assert "Traceback" not in errors
  assert (tmp_path / "checkpoints" / "4" / "record" / "metadata").read_text() == before
  status, output, errors = finish(start(scratch, *command))
  assert status == 0, errors
  assert "resuming after step 4\n" in output
  assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 12
