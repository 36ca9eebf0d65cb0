"""The batch script for Slurm, with stand-ins for its commands and on a real Slurm of two nodes."""

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPT = ROOT / "launch" / "slurm.sbatch"
LOCAL_SLURM = HERE / "local_slurm.sh"


def wait_for(condition, seconds=60):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


class FakeSlurm:
  """A job of two tasks, as the batch script sees it."""

  def __init__(self, directory, write_program):
    self.directory = directory
    self.workdir = directory / "run"
    for name in ("srun", "scontrol", "squeue", "scancel"):
      write_program(directory / name, HERE / "fake_slurm.py", name)
    (directory / "calls").touch()
    self.set_state("RUNNING")
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    own.pop("JAX_PLATFORMS", None)
    self.environment = {
      **own,
      "FAKE_SLURM": str(directory),
      "PATH": f"{directory}:{os.environ['PATH']}",
      "PYTHON": str(write_program(directory / "stand_in", HERE / "stand_in.py")),
      "PAUSE": "0.1",
      "SLURM_CPUS_PER_TASK": "4",
      "SLURM_JOB_ID": "17",
      "SLURM_JOB_NODELIST": "node[1-2]",
      "SLURM_NTASKS": "2",
      "SLURM_SUBMIT_DIR": str(directory),
    }

  def set_state(self, state):
    (self.directory / "state").write_text(state)

  def start(self, *arguments, **environment):
    return subprocess.Popen(
      ["bash", SCRIPT, f"--workdir={self.workdir}", *arguments],
      cwd=self.directory,
      env={**self.environment, **environment},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  def run(self, *arguments, **environment):
    """Returns exit status and output."""
    process = self.start(*arguments, **environment)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output

  def calls(self, program):
    calls = [json.loads(line) for line in (self.directory / "calls").read_text().splitlines()]
    return [call[1:] for call in calls if call[0] == program]

  def checkpoints(self):
    return sorted(int(path.name) for path in self.workdir.glob("checkpoints/*"))


@pytest.fixture
def slurm(tmp_path, write_program):
  return FakeSlurm(tmp_path, write_program)


class TestEnd:
  def test_a_finished_run_is_not_started_again(self, slurm):
    status, output = slurm.run()
    assert status == 0
    assert "process 1 has finished\n" in output
    assert not slurm.calls("scontrol")

  def test_after_status_75_the_job_is_requeued_and_goes_on(self, slurm):
    status, output = slurm.run("--plan=3:75:1")
    assert status == 75
    assert "status 75; the job is requeued" in output
    assert slurm.calls("scontrol") == [["requeue", "17"]]
    newest = slurm.checkpoints()[-1]
    status, output = slurm.run("--plan=3:75:1", SLURM_RESTART_COUNT="1")
    assert status == 0
    assert f"process 0 starts from step {newest}\n" in output

  def test_after_the_end_of_a_task_by_a_signal_the_job_is_requeued(self, slurm):
    status, _ = slurm.run("--plan=3:kill:1")
    assert status == 128 + signal.SIGKILL
    assert slurm.calls("scontrol") == [["requeue", "17"]]

  @pytest.mark.parametrize("mistake", ["1", "130"])
  def test_after_a_mistake_or_ctrl_c_in_one_task_the_job_ends(self, slurm, mistake):
    """The others, which have lost it, end with 75; srun returns the highest."""
    status, output = slurm.run(f"--plan=3:{mistake}:1")
    assert status == 255
    assert "process 0 ends at step" in output
    assert not slurm.calls("scontrol")

  def test_after_many_restarts_the_job_ends(self, slurm):
    status, output = slurm.run("--plan=3:75:0", SLURM_RESTART_COUNT="2", MAX_RESTARTS="2")
    assert status == 75
    assert "after 2 restarts, the most that there may be" in output
    assert not slurm.calls("scontrol")

  def test_a_job_that_slurm_ends_is_left_to_slurm(self, slurm):
    """One that was cancelled does not come back; one that was preempted Slurm requeues itself."""
    slurm.set_state("COMPLETING")
    status, _ = slurm.run("--plan=3:75:0")
    assert status == 75
    assert not slurm.calls("scontrol")


class TestSigterm:
  def test_to_the_script_alone_is_passed_on_and_waited_for(self, slurm):
    process = slurm.start("--steps=1000")
    wait_for(lambda: 2 in slurm.checkpoints())
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert slurm.calls("scancel") == [["--signal=TERM", "17"]]
    assert "signals: [15]" in output
    assert process.returncode == 75
    assert slurm.calls("scontrol") == [["requeue", "17"]]

  def test_from_slurm_which_tells_the_tasks_itself_is_not_passed_on(self, slurm):
    process = slurm.start("--steps=40")
    wait_for(lambda: 2 in slurm.checkpoints())
    slurm.set_state("COMPLETING")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "waiting for the tasks" in output
    assert process.returncode == 0
    assert not slurm.calls("scancel")


class TestCommand:
  def test_is_printed_by_a_dry_run_which_starts_nothing(self, slurm):
    status, output = slurm.run("--config=c.py", "--config.x=a b", DRY_RUN="1")
    assert status == 0
    change, *command = output.split("\n", 1)
    assert shlex.split(change) == ["cd", str(slurm.directory)]
    words = shlex.split(command[0])
    assert words[0] == "srun"
    python = words.index(slurm.environment["PYTHON"])
    assert words[python + 1 :] == [
      *("-m", "speedpaper_jax.main", f"--workdir={slurm.workdir}", "--config=c.py"),
      "--config.x=a b",
    ]
    assert not slurm.calls("srun")

  def test_without_a_job_comes_from_a_dry_run_too(self, tmp_path):
    output = subprocess.run(
      ["bash", SCRIPT, "--", "--config=c.py"],
      cwd=tmp_path,
      env={"PATH": os.environ["PATH"], "DRY_RUN": "1"},
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    ).stdout
    assert shlex.split(output)[-1] == f"--workdir={tmp_path}/runs/slurm-JOB"

  def test_gives_tasks_their_cpus_and_time_to_end(self, slurm):
    slurm.run("--steps=1")
    (words,) = slurm.calls("srun")
    options = words[: words.index("bash")]
    assert options == ["--kill-on-bad-exit=0", "--wait=120", "--cpus-per-task=4"]

  def test_has_a_directory_that_stays_the_same_when_the_job_is_requeued(self, slurm):
    commands = []
    for restart in ("0", "1"):
      output = subprocess.run(
        ["bash", SCRIPT, "--steps=1"],
        env={**slurm.environment, "SLURM_RESTART_COUNT": restart},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
      ).stdout
      assert "process 0 has finished" in output
      commands.append(slurm.calls("srun")[-1])
    assert commands[0] == commands[1]
    assert commands[0][-1] == f"--workdir={slurm.directory}/runs/slurm-17"

  @pytest.mark.parametrize(("gpus", "platforms"), [("", "cpu"), ("0", "cpu"), ("8", "")])
  def test_runs_on_cpus_where_the_job_has_no_gpus(self, slurm, gpus, platforms):
    python = slurm.directory / "prints_platforms"
    python.write_text('#!/bin/sh\necho "platforms: $JAX_PLATFORMS"\n')
    python.chmod(0o755)
    _, output = slurm.run(PYTHON=str(python), SLURM_GPUS_ON_NODE=gpus)
    assert output.count(f"platforms: {platforms}\n") == 2

  def test_is_told_of_the_time_limit_in_the_tasks_and_can_be_requeued(self):
    options = [line.split()[1] for line in SCRIPT.read_text().splitlines() if "#SBATCH" in line]
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append"} <= set(options)


def reason_against_a_real_slurm():
  missing = [name for name in ("slurmctld", "slurmd", "munged", "unshare") if not which(name)]
  if missing:
    return f"{', '.join(missing)} not installed"
  return None if os.geteuid() == 0 else "the user is not root"


def which(name):
  return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


class RealSlurm:
  """Two nodes on this machine, and the stand-in for training."""

  def __init__(self, directory, write_program):
    self.directory = directory
    self.environment = {
      **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
      "PATH": f"{os.environ['PATH']}:/usr/sbin",
      "PYTHON": str(write_program(directory / "stand_in", HERE / "stand_in.py")),
      "SLURM_CONF": str(directory / "slurm" / "slurm.conf"),
    }

  def call(self, *command):
    finished = subprocess.run(
      command,
      cwd=ROOT,
      env=self.environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout.strip()

  def submit(self, name, *arguments):
    options = (
      *("--parsable", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0"),
      *("--cpus-per-task=1", f"--output={self.directory}/{name}.out"),
    )
    return Job(self, name, self.call("sbatch", *options, SCRIPT, *arguments))


class Job:
  def __init__(self, slurm, name, number):
    self.slurm, self.number = slurm, number
    self.workdir = slurm.directory / name
    self.file = slurm.directory / f"{name}.out"

  def output(self):
    return self.file.read_text() if self.file.exists() else ""

  def field(self, name):
    words = self.slurm.call("scontrol", "show", "job", self.number).split()
    return dict(word.partition("=")[::2] for word in words)[name]

  def wait_for_checkpoint(self, step):
    wait_for(lambda: (self.workdir / "checkpoints" / str(step)).exists())

  def wait_for_end(self):
    wait_for(lambda: self.field("JobState") in ("COMPLETED", "FAILED", "CANCELLED"))
    return self.field("JobState")


@pytest.fixture(scope="class")
def real_slurm(tmp_path_factory, write_program):
  reason = reason_against_a_real_slurm()
  if reason:
    message = f"no real Slurm: {reason}"
    if os.environ.get("REAL_SLURM") == "required":  # as in CI
      pytest.fail(message)
    pytest.skip(message)
  directory = tmp_path_factory.mktemp("slurm")
  slurm = RealSlurm(directory, write_program)
  slurm.call(LOCAL_SLURM, "start", directory / "slurm")
  yield slurm
  slurm.call(LOCAL_SLURM, "stop", directory / "slurm")


@pytest.mark.slow
class TestOnARealSlurm:
  def test_trains_on_two_nodes(self, real_slurm):
    job = real_slurm.submit("plain", f"--workdir={real_slurm.directory}/plain")
    assert job.wait_for_end() == "COMPLETED"
    assert "job 1 on node[1-2], tasks 2, restart 0" in job.output()
    assert "process 0 has finished\n" in job.output()
    assert "process 1 has finished\n" in job.output()

  @pytest.mark.parametrize(
    ("name", "command"),
    [
      ("sigterm", ("scancel", "--signal=TERM")),
      ("sigterm-to-the-script", ("scancel", "--batch", "--signal=TERM")),
      ("requeue", ("scontrol", "requeue")),
    ],
  )
  def test_a_notice_is_told_once_and_the_job_goes_on(self, real_slurm, name, command):
    job = real_slurm.submit(name, f"--workdir={real_slurm.directory}/{name}", "--steps=100")
    job.wait_for_checkpoint(2)
    real_slurm.call(*command, job.number)
    assert job.wait_for_end() == "COMPLETED"
    assert job.field("Restarts") == "1"
    lines = job.output().splitlines()
    (end,) = [line for line in lines if line.startswith("process 0 ends at step")]
    assert end.endswith("signals: [15]")
    step = end.split()[5].rstrip(",")
    assert f"process 0 starts from step {step}" in lines
    assert f"process 1 starts from step {step}" in lines

  def test_a_cancelled_job_saves_and_does_not_come_back(self, real_slurm):
    job = real_slurm.submit("cancel", f"--workdir={real_slurm.directory}/cancel", "--steps=1000")
    job.wait_for_checkpoint(2)
    real_slurm.call("scancel", job.number)
    assert job.wait_for_end() == "CANCELLED"
    wait_for(lambda: "signals: [15]" in job.output())
    assert job.field("Restarts") == "0"

  def test_a_mistake_of_one_task_ends_the_job(self, real_slurm):
    workdir = f"--workdir={real_slurm.directory}/mistake"
    job = real_slurm.submit("mistake", workdir, "--plan=3:1:1")
    assert job.wait_for_end() == "FAILED"
    assert job.field("ExitCode") == "255:0"
    assert job.field("Restarts") == "0"

  def test_a_task_that_is_killed_lets_the_job_start_again(self, real_slurm):
    job = real_slurm.submit("kill", f"--workdir={real_slurm.directory}/kill", "--plan=3:kill:1")
    assert job.wait_for_end() == "COMPLETED"
    assert job.field("Restarts") == "1"
