"""The launcher for TPU pods, on stand-ins for training and for `gcloud`, with two hosts."""

import contextlib
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
PROGRAMS = ("gcloud", "curl", "python3", "pip", "mountpoint", "sudo")


class Cloud:
  """The stand-in, and a repository with the launcher in it."""

  def __init__(self, directory, write_program):
    self.directory = directory / "cloud"
    self.repository = directory / "repository"
    self.workdir = directory / "shared" / "run"
    self.processes = []
    bin_directory = self.directory / "bin"
    bin_directory.mkdir(parents=True)
    (self.directory / "calls").touch()
    for name in PROGRAMS:
      write_program(bin_directory / name, HERE / "fake_cloud.py", name)
    write_program(bin_directory / "stand_in", HERE / "stand_in.py")
    self.environment = {
      **os.environ,
      "FAKE_CLOUD": str(self.directory),
      "PATH": f"{bin_directory}:{os.environ['PATH']}",
    }
    (self.repository / "launch").mkdir(parents=True)
    for name in ("tpu_pod.sh", "tpu_worker.sh"):
      shutil.copy(ROOT / "launch" / name, self.repository / "launch")
    shutil.copy(ROOT / "requirements.txt", self.repository)
    self.git("init", "--quiet")
    self.git("add", ".")

  def git(self, *arguments):
    subprocess.run(["git", *arguments], cwd=self.repository, check=True)

  def start(self, command, *settings, training=None):
    """Starts `tpu_pod.sh COMMAND SETTINGS -- TRAINING`."""
    script = self.repository / "launch" / "tpu_pod.sh"
    if training is not None:
      settings = (*settings, "--", f"--workdir={self.workdir}", *training)
    process = subprocess.Popen(
      # In the background tests ignore Ctrl-C, and so would the launcher's shell.
      [shutil.which("env"), "--default-signal=INT", script, command, *settings],
      env=self.environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    self.processes.append(process)
    return process

  def call(self, command, *settings, training=None, status=0):
    """Returns what the command printed, which must end with `status`."""
    process = self.start(command, *settings, training=training)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    return output

  def calls(self, *beginning):
    """Of a program; `gcloud` without the words that all calls have."""
    calls = [json.loads(line) for line in (self.directory / "calls").read_text().splitlines()]
    calls = [
      [each for each in call if each not in ("--quiet", "compute", "tpus")] for call in calls
    ]
    return [call for call in calls if call[: len(beginning)] == list(beginning)]

  def remote_commands(self):
    """What tpu_worker.sh was asked for, in this order, without the questions."""
    calls = [" ".join(call) for call in self.calls("gcloud", "tpu-vm", "ssh")]
    words = [call.partition("tpu_worker.sh ")[2].split(" ")[0] for call in calls]
    return [word for word in words if word and word not in ("state", "log")]

  def checkpoints(self):
    return sorted(int(path.name) for path in self.workdir.glob("checkpoints/*"))

  def starts(self, process=0):
    """The arguments with which training was started on a host."""
    file = self.workdir / f"starts-{process}"
    return [line.split(" ") for line in file.read_text().splitlines()] if file.exists() else []

  def home(self, host):
    return self.directory / f"host-{host}"

  def wait_for(self, condition):
    deadline = time.monotonic() + 60
    while not condition():
      assert time.monotonic() < deadline
      time.sleep(0.02)

  def end_all(self):
    for process in self.processes:
      process.kill()
      process.communicate()
    for host in (0, 1):
      file = self.home(host) / "speedpaper_jax" / "run" / "supervisor"
      if file.exists():
        with contextlib.suppress(ProcessLookupError):
          os.killpg(int(file.read_text()), signal.SIGKILL)


@pytest.fixture
def cloud(tmp_path, write_program):
  cloud = Cloud(tmp_path, write_program)
  yield cloud
  cloud.end_all()


FAST = ("--poll=0.1",)


@pytest.mark.slow
class TestRun:
  def test_waits_for_the_tpu_sets_up_all_hosts_and_trains_to_the_end(self, cloud):
    output = cloud.call("run", *FAST, "--zone=z1", "--project=p1", training=["--config=c.py"])
    states = [line.rpartition(": ")[2] for line in output.splitlines() if "the TPU" in line]
    assert states == ["absent", "waiting", "ready"]
    assert "process 0 starts from step 0\nstep 1\n" in output
    assert output.endswith("finished\n")
    assert cloud.calls("gcloud", "queued-resources", "create") == [
      [
        *("gcloud", "queued-resources", "create", "speedpaper-jax", "--node-id=speedpaper-jax"),
        *("--runtime-version=v2-alpha-tpuv5-lite", "--accelerator-type=v5litepod-16", "--spot"),
        *("--zone=z1", "--project=p1"),
      ]
    ]
    assert cloud.remote_commands() == ["install", "start"]
    assert not cloud.calls("gcloud", "queued-resources", "delete")

  def test_tells_each_process_who_the_others_are(self, cloud):
    cloud.call("run", *FAST, training=["--config=two words"])
    for process in (0, 1):
      assert cloud.starts(process) == [
        [
          *("-m", "speedpaper_jax.main", f"--workdir={cloud.workdir}", "--config=two", "words"),
          "--coordinator_address=10.1.0.1:8482",
          "--process_count=2",
          f"--process_index={process}",
        ]
      ]

  def test_starts_again_after_status_75_from_the_newest_checkpoint(self, cloud):
    output = cloud.call("run", *FAST, training=["--plan=3:75:1"])
    assert "start anew from checkpoint" in output
    assert output.endswith("finished\n")
    assert len(cloud.starts(0)) == len(cloud.starts(1)) == 2
    assert cloud.checkpoints() == list(range(1, 9))
    assert output.count("process 0 starts from step 0\n") == 1  # and no part of the log twice
    assert cloud.remote_commands() == ["install", "start", "start"]

  def test_starts_again_after_the_end_by_a_signal(self, cloud):
    output = cloud.call("run", *FAST, training=["--plan=3:kill:0"])
    assert output.endswith("finished\n")
    assert len(cloud.starts(0)) == 2

  def test_ends_after_a_mistake_with_the_end_of_the_log(self, cloud):
    output = cloud.call("run", *FAST, training=["--plan=3:1:1"], status=1)
    assert "training on host 1 ended with status 1; its log ends:" in output
    assert "process 1 ends by plan at step" in output
    assert len(cloud.starts(1)) == 1

  def test_gets_a_new_tpu_when_it_is_taken_away_and_goes_on(self, cloud):
    output = cloud.call("run", *FAST, training=["--plan=4:preempt:0"])
    assert output.endswith("finished\n")
    requests = cloud.calls("gcloud", "queued-resources", "create")
    assert len(requests) == 2
    assert requests[0] == requests[1]
    assert len(cloud.calls("gcloud", "queued-resources", "delete")) == 1
    assert cloud.remote_commands() == ["install", "start", "install", "start"]
    assert "start anew from checkpoint" in output
    assert "process 0 starts from step 4\nstep 5\n" in output
    assert cloud.starts()[0] == cloud.starts()[1]

  def test_gives_up_when_new_starts_bring_no_new_checkpoint(self, cloud):
    plan = ",".join(["0:75:0"] * 9)
    (cloud.workdir / "checkpoints" / "7").mkdir(parents=True)
    output = cloud.call("run", *FAST, "--max_fruitless=2", training=[f"--plan={plan}"], status=1)
    assert "2 starts anew have brought no new checkpoint; the newest is 7." in output
    assert len(cloud.starts()) == 3

  def test_a_network_that_fails_for_a_while_changes_nothing(self, cloud):
    process = cloud.start("run", *FAST, training=["--steps=40"])
    cloud.wait_for(lambda: 3 in cloud.checkpoints())
    (cloud.directory / "offline").write_text("4")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "the hosts cannot be reached at the moment" in output
    assert not cloud.calls("gcloud", "queued-resources", "delete")
    assert len(cloud.starts()) == 1

  def test_training_outlives_the_launcher_which_then_finds_it(self, cloud):
    process = cloud.start("run", *FAST, training=["--steps=40"])
    cloud.wait_for(lambda: 2 in cloud.checkpoints())
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "training goes on" in output
    output = cloud.call("run", *FAST, training=["--steps=40"])
    assert "training is running already" in output
    assert output.endswith("finished\n")
    assert len(cloud.starts()) == 1

  def test_does_not_ask_again_for_a_tpu_that_someone_has_deleted(self, cloud):
    process = cloud.start("run", *FAST, training=["--steps=1000"])
    cloud.wait_for(lambda: 2 in cloud.checkpoints())
    cloud.call("delete")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "somebody has deleted the TPU" in output
    assert len(cloud.calls("gcloud", "queued-resources", "create")) == 1

  def test_does_not_repeat_a_request_that_has_failed(self, cloud):
    (cloud.directory / "hopeless").touch()
    output = cloud.call("run", *FAST, training=[], status=1)
    assert "the request has failed" in output
    assert len(cloud.calls("gcloud", "queued-resources", "create")) == 1


@pytest.mark.slow
class TestStop:
  def test_lets_training_save_and_ends_the_launcher_without_a_new_start(self, cloud):
    process = cloud.start("run", *FAST, training=["--steps=1000"])
    cloud.wait_for(lambda: 2 in cloud.checkpoints())
    output = cloud.call("stop", *FAST)
    assert output == "0 stopped -\n1 stopped -\n"
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "stopped; the state is saved" in output
    assert f"process 0 ends at step {cloud.checkpoints()[-1]}, signals: [15]" in output
    assert len(cloud.starts()) == 1

  @pytest.mark.parametrize(
    ("plan", "states"),
    [
      ("3:75:1", ["stopped", "stopped"]),
      ("3:kill:1", ["stopped", "stopped"]),
      ("3:1:1", ["stopped", "exited:1"]),  # a failure stays one
      ("3:130:1", ["stopped", "exited:130"]),
    ],
  )
  def test_reaches_hosts_on_which_training_waits_for_a_new_start(self, cloud, plan, states):
    for step in ("create", "copy", "install"):
      cloud.call(step, *FAST)
    cloud.call("start", training=[f"--plan={plan}"])
    cloud.wait_for(lambda: "running" not in cloud.call("status"))
    assert "0 exited:75 " in cloud.call("status")
    assert cloud.call("stop", *FAST) == f"0 {states[0]} -\n1 {states[1]} -\n"

  def test_that_comes_too_late_finds_a_finished_run(self, cloud):
    cloud.call("run", *FAST, training=["--steps=1"])
    assert cloud.call("stop", *FAST) == "0 exited:0 -\n1 exited:0 -\n"
    assert cloud.call("run", *FAST, training=["--steps=1"]).endswith("finished\n")


class TestSteps:
  def test_can_be_taken_one_by_one(self, cloud):
    for step in ("create", "copy", "install"):
      cloud.call(step, *FAST)
    cloud.call("start", training=["--steps=3"])
    cloud.wait_for(lambda: "running" not in cloud.call("status"))
    output = cloud.call("status", training=[])
    assert output.endswith("the TPU speedpaper-jax: ready\n0 exited:0 3\n1 exited:0 3\n")
    assert "process 0 has finished\n" in cloud.call("log")
    assert "process 1 has finished\n" in cloud.call("log", "--worker=1")
    cloud.call("delete")
    assert cloud.call("status", status=1).startswith("tpu_pod.sh")

  def test_copy_takes_the_tracked_files_as_they_are_now(self, cloud):
    (cloud.repository / "untracked").touch()
    (cloud.repository / "deleted").touch()
    cloud.git("add", "deleted")
    (cloud.repository / "deleted").unlink()
    (cloud.repository / "requirements.txt").write_text("jax==1.2.3  # changed\n")
    cloud.call("create", *FAST)
    for host in (0, 1):
      (cloud.home(host) / "speedpaper_jax" / "code").mkdir(parents=True)
      (cloud.home(host) / "speedpaper_jax" / "code" / "old").touch()
    cloud.call("copy")
    for host in (0, 1):
      code = cloud.home(host) / "speedpaper_jax" / "code"
      assert sorted(path.name for path in code.iterdir()) == ["launch", "requirements.txt"]
      assert (code / "requirements.txt").read_text() == "jax==1.2.3  # changed\n"

  def test_install_takes_the_version_of_jax_from_the_requirements(self, cloud):
    (cloud.repository / "requirements.txt").write_text("flax==0.1\njax==1.2.3  # changed\n")
    for step in ("create", "copy", "install"):
      cloud.call(step, *FAST)
    for host, call in enumerate(cloud.calls("pip")):
      requirements = cloud.home(host) / "speedpaper_jax" / "code" / "requirements.txt"
      assert call == ["pip", "install", "-r", str(requirements), "jax[tpu]==1.2.3"]
    assert len(cloud.calls("pip")) == 2
    assert not cloud.calls("python3", "-m", "uv")
    assert not cloud.calls("sudo")

  def test_install_gets_a_newer_python_where_the_hosts_is_too_old(self, cloud):
    (cloud.directory / "old_python").touch()
    for step in ("create", "copy", "install"):
      cloud.call(step, *FAST)
    assert len(cloud.calls("python3", "-m", "pip", "install", "--user", "uv")) == 2
    assert len(cloud.calls("python3", "-m", "uv", "venv", "--seed")) == 2

  def test_install_mounts_the_share(self, cloud):
    cloud.call("create", *FAST)
    cloud.call("copy")
    cloud.call("install", "--share=10.0.0.2:/vol1", "--mount_point=/mnt/it")
    mounts = [["sudo", "mount", "-t", "nfs", "10.0.0.2:/vol1", "/mnt/it"]] * 2
    assert cloud.calls("sudo", "mount") == mounts
    assert cloud.calls("sudo", "mkdir") == [["sudo", "mkdir", "-p", "/mnt/it"]] * 2

  def test_a_tpu_can_be_had_without_the_queue(self, cloud):
    cloud.call("create", *FAST, "--capacity=direct", "--spot=no", "--name=mine")
    (create,) = cloud.calls("gcloud", "tpu-vm", "create")
    assert create[3:6] == [
      *("mine", "--version=v2-alpha-tpuv5-lite", "--accelerator-type=v5litepod-16"),
    ]
    assert "--spot" not in create
    cloud.call("delete", "--capacity=direct", "--name=mine")
    assert cloud.calls("gcloud", "tpu-vm", "delete")
    assert not cloud.calls("gcloud", "queued-resources")


class TestDryRun:
  def test_prints_the_commands_of_a_run_and_calls_nothing(self, cloud):
    output = cloud.call("run", "--dry_run", training=["--config=c.py", "--config.x=a b"])
    commands = [line.split(" ")[4:6] for line in output.splitlines() if line.startswith("gcloud")]
    assert commands == [
      ["queued-resources", "describe"],
      ["queued-resources", "create"],
      ["queued-resources", "describe"],
      ["tpu-vm", "ssh"],  # is it running already?
      ["tpu-vm", "scp"],
      ["tpu-vm", "ssh"],  # unpack
      ["tpu-vm", "ssh"],  # install
      ["tpu-vm", "ssh"],  # start
      ["tpu-vm", "ssh"],  # how does it go?
      ["tpu-vm", "ssh"],  # log
    ]
    assert f"start --workdir={cloud.workdir} --config=c.py" in output
    assert not cloud.calls()

  @pytest.mark.parametrize(
    "command", ["create", "copy", "install", "follow", "log", "status", "stop", "delete"]
  )
  def test_every_step_has_one(self, cloud, command):
    assert "gcloud --quiet compute tpus " in cloud.call(command, "--dry_run")
    assert not cloud.calls()


class TestMistakes:
  def test_without_a_command_the_usage_is_printed(self, cloud):
    assert "tpu_pod.sh COMMAND [--SETTING=VALUE" in cloud.call("", status=1)

  def test_unknown_settings_are_named(self, cloud):
    output = cloud.call("create", "--zones=here", status=1)
    assert output.startswith("error: --zones=here is no setting; they are --dry_run and --name")
    assert "--spot=maybe is neither yes nor no" in cloud.call("create", "--spot=maybe", status=1)

  @pytest.mark.parametrize("flags", [[], ["--workdir=runs/1"]])
  def test_a_run_has_to_have_a_directory_that_a_new_start_finds(self, cloud, flags):
    output = cloud.call("run", "--", "--config=c.py", *flags, status=1)
    assert "give --workdir=/DIRECTORY" in output
    assert not cloud.calls()

  def test_a_missing_gcloud_is_told(self, cloud):
    tools = cloud.directory / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "mktemp", "rm"):
      (tools / name).symlink_to(shutil.which(name))
    cloud.environment["PATH"] = str(tools)
    assert "there is no gcloud" in cloud.call("create", status=1)


GCLOUD = shutil.which("gcloud")


@pytest.mark.slow
@pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed")
class TestSyntax:
  @pytest.mark.parametrize("capacity", ["queued", "direct"])
  def test_gcloud_itself_knows_the_commands(self, cloud, tmp_path, capacity):
    """Without an account it goes no further than that."""
    settings = ("--dry_run", f"--capacity={capacity}", "--project=p1")
    output = cloud.call("run", *settings, training=[]) + cloud.call("delete", *settings)
    words = [shlex.split(line) for line in output.splitlines() if line.startswith("gcloud ")]
    # The same flags again would say nothing new.
    commands = {tuple(each[4:6]): each for each in words}
    assert {"create", "describe", "delete", "ssh", "scp"} == {each[1] for each in commands}
    for command in commands.values():
      if "scp" in command:
        command[6] = str(ROOT / "requirements.txt")
      finished = subprocess.run(
        [GCLOUD, *command[1:]],
        env={
          "CLOUDSDK_CONFIG": str(tmp_path / "nobody"),
          "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
          "HOME": str(tmp_path),
          "PATH": os.environ["PATH"],
        },
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
      )
      assert "You do not currently have an active account" in finished.stderr
