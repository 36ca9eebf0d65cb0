"""launch/local.py: who is started, and what the launcher makes of how they end."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LAUNCHER = ROOT / "launch" / "local.py"
MINUTE = 60

# Process i of start n does what the n-th word of its script says: a status to end with, "killed",
# or "waits" for SIGTERM, which it obeys with the status 75.
PROGRAM = r"""
import json, os, pathlib, signal, sys, time
flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
workdir, index = pathlib.Path(flags["workdir"]), int(flags["process_index"])
with (workdir / f"{index}.starts").open("a") as file:
  file.write(json.dumps({"flags": flags, "devices": os.environ["JAX_NUM_CPU_DEVICES"]}) + "\n")
start = len((workdir / f"{index}.starts").read_text().splitlines()) - 1
word = json.loads((workdir / "script.json").read_text())[index][start]
if word == "waits":
  signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
  (workdir / f"{index}.waits").touch()
  time.sleep(100)
if word == "hangs":
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  time.sleep(100)
if word == "killed":
  os.kill(os.getpid(), signal.SIGKILL)
sys.exit(word)
"""


@pytest.fixture
def workdir(tmp_path):
  (tmp_path / "program.py").write_text(PROGRAM)
  return tmp_path


def start(workdir, *script, flags=()):
  """Starts the launcher; `script` has for each process what it does in each of its starts."""
  (workdir / "script.json").write_text(json.dumps(script))
  return subprocess.Popen(
    [
      sys.executable,
      LAUNCHER,
      f"--processes={len(script)}",
      f"--program={workdir / 'program.py'}",
      *flags,
      "--",
      "--config=x",
      f"--workdir={workdir}",
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def launch(workdir, *script, flags=("--grace=0.5",)):
  """Status, and what the launcher said."""
  process = start(workdir, *script, flags=flags)
  _, errors = process.communicate(timeout=MINUTE)
  return process.returncode, errors


def starts(workdir, index):
  return [json.loads(line) for line in (workdir / f"{index}.starts").read_text().splitlines()]


def test_each_process_knows_its_number_and_where_they_meet(workdir):
  status, _ = launch(workdir, [0], [0], [0], flags=["--devices=4"])
  assert status == 0
  first, *others = (starts(workdir, index)[0] for index in range(3))
  assert first["flags"]["coordinator_address"].startswith("127.0.0.1:")
  assert first["devices"] == "4"
  assert first["flags"]["process_count"] == "3"
  for index, other in enumerate(others, 1):
    assert other["flags"] == {**first["flags"], "process_index": str(index)}


@pytest.mark.parametrize(
  ("word", "said"),
  [
    (75, "process 1 asked to be started again; starting again (1 of at most 10)."),
    ("killed", "process 1 was ended by SIGKILL; starting again (1 of at most 10)."),
  ],
)
def test_all_are_started_again(workdir, word, said):
  status, errors = launch(workdir, [0, 0], [word, 0])
  assert status == 0
  assert said in errors
  assert [len(starts(workdir, index)) for index in range(2)] == [2, 2]


def test_a_new_start_meets_at_another_port(workdir):
  launch(workdir, [75, 0])
  one, other = (start["flags"]["coordinator_address"] for start in starts(workdir, 0))
  assert one != other


@pytest.mark.parametrize("status", [1, 2])
def test_a_mistake_is_not_repeated(workdir, status):
  """Whatever became of the others, which only lost their partner."""
  ended, errors = launch(workdir, ["killed"], [status])
  assert ended == status
  assert "not mended by starting again" in errors
  assert len(starts(workdir, 0)) == 1


def test_those_that_do_not_end_by_themselves_are_killed(workdir):
  status, errors = launch(workdir, ["hangs", 0], ["killed", 0])
  assert status == 0
  assert "starting again" in errors


def test_restarts_have_a_limit(workdir):
  status, errors = launch(workdir, [75] * 4, flags=["--restarts=2"])
  assert status == 75
  assert "started again 2 times already" in errors
  assert len(starts(workdir, 0)) == 3


@pytest.mark.parametrize(
  ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGHUP, 75)]
)
@pytest.mark.usefixtures("without_nohup")
def test_a_request_to_stop_is_passed_on_and_obeyed(workdir, number, status):
  process = start(workdir, ["waits"], ["waits"])
  deadline = time.monotonic() + MINUTE
  while not all((workdir / f"{index}.waits").exists() for index in range(2)):
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(number)
  process.communicate(timeout=MINUTE)
  assert process.returncode == status
  assert [len(starts(workdir, index)) for index in range(2)] == [1, 1]


def test_a_dry_run_starts_nothing(workdir):
  process = start(workdir, [0], [0], flags=["--dry_run"])
  output, _ = process.communicate(timeout=MINUTE)
  assert process.returncode == 0
  assert [line.split()[2:5] for line in output.splitlines()] == [
    ["--coordinator_address=127.0.0.1:PORT", "--process_count=2", f"--process_index={index}"]
    for index in range(2)
  ]
  assert not list(workdir.glob("*.starts"))


@pytest.mark.parametrize(
  ("arguments", "status", "message"),
  [
    (["--", "--config=x"], 1, "error: Name the run's directory with --workdir=DIR"),
    (["--processes=2"], 2, "give the arguments of the training after --"),
    (["--processes=0", "--", "--workdir=x"], 2, "--processes and --devices are at least 1"),
    (["--proceses=2", "--", "--workdir=x"], 2, "unrecognized arguments: --proceses=2"),
  ],
)
def test_mistakes(arguments, status, message):
  ended = subprocess.run(
    [sys.executable, LAUNCHER, *arguments], capture_output=True, text=True, check=False
  )
  assert ended.returncode == status
  assert message in ended.stderr
  assert "Traceback" not in ended.stderr


def test_status_of_a_restart_is_the_projects():
  from speedpaper_jax.distributed.interrupts import START_AGAIN

  assert START_AGAIN == os.EX_TEMPFAIL == 75
