"""In place of `gcloud`, and of what its hosts have: `fake_cloud.py PROGRAM ARGUMENTS…`.

The cloud is a directory, $FAKE_CLOUD. Its files: `calls`, a JSON list for each call of a program;
`request` and `node`, the states of the queued resource and of the TPU VM; `host-0` and `host-1`,
the home directories of the hosts, where commands through ssh run. Some files change what happens:
`preempted` takes the TPU away, `offline` has the number of calls that cannot reach the cloud,
`hopeless` lets requests fail, `old_python` makes the hosts' Python too old.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

CLOUD = pathlib.Path(os.environ["FAKE_CLOUD"])
REQUEST, NODE = CLOUD / "request", CLOUD / "node"
HOSTS = ("0", "1")
AFTERWARDS = {
  "ACCEPTED": "WAITING_FOR_RESOURCES",
  "WAITING_FOR_RESOURCES": "PROVISIONING",
  "PROVISIONING": "ACTIVE",
  "SUSPENDING": "SUSPENDED",
}
# What tpu_pod.sh may use, of `gcloud compute tpus GROUP COMMAND`.
FLAGS = {
  ("queued-resources", "create"): {"node-id", "accelerator-type", "runtime-version", "spot"},
  ("queued-resources", "describe"): {"format"},
  ("queued-resources", "delete"): {"force"},
  ("tpu-vm", "create"): {"accelerator-type", "version", "spot"},
  ("tpu-vm", "describe"): {"format"},
  ("tpu-vm", "delete"): set(),
  ("tpu-vm", "ssh"): {"worker", "command"},
  ("tpu-vm", "scp"): {"worker"},
}


def home(host):
  return CLOUD / f"host-{host}"


def gcloud(*arguments):
  flags = dict(each[2:].partition("=")[::2] for each in arguments if each.startswith("--"))
  _, _, group, command, *words = [each for each in arguments if not each.startswith("--")]
  assert arguments[:3] == ("--quiet", "compute", "tpus"), arguments
  assert set(flags) - {"quiet", "zone", "project"} <= FLAGS[group, command], arguments
  if (CLOUD / "preempted").exists():
    (CLOUD / "preempted").unlink()
    take_away()
    REQUEST.write_text("SUSPENDING")
  if int(read(CLOUD / "offline") or 0) > 0:
    (CLOUD / "offline").write_text(str(int(read(CLOUD / "offline")) - 1))
    sys.exit("ERROR: (gcloud.compute.tpus) There was a problem reaching the network")
  if command == "create":
    create(group)
  elif command == "describe":
    describe(REQUEST if group == "queued-resources" else NODE)
  elif command == "delete":
    take_away()
    REQUEST.unlink(missing_ok=True)
  elif not NODE.exists():
    sys.exit("ERROR: (gcloud.compute.tpus.tpu-vm) NOT_FOUND: there is no such TPU VM")
  else:
    hosts = HOSTS if flags["worker"] == "all" else flags["worker"]
    if command == "ssh":
      sys.exit(max([ssh(host, flags["command"]) for host in hosts]))
    for host in hosts:
      shutil.copy(words[0], home(host))


def create(group):
  assert not REQUEST.exists()
  assert not NODE.exists()
  if group == "tpu-vm":
    give()
  else:
    REQUEST.write_text("FAILED" if (CLOUD / "hopeless").exists() else "ACCEPTED")


def describe(file):
  """Prints the state; a request gets ahead by one when it is looked at."""
  state = read(file)
  if state is None:
    sys.exit("ERROR: (gcloud.compute.tpus.describe) NOT_FOUND: Resource was not found")
  print(state)
  if file == REQUEST:
    following = AFTERWARDS.get(state, state)
    if following == "ACTIVE" != state:
      give()
    file.write_text(following)


def read(file):
  return file.read_text() if file.exists() else None


def give():
  for host in HOSTS:
    home(host).mkdir()
  NODE.write_text("READY")


def take_away():
  for host in HOSTS:
    supervisor = read(home(host) / "speedpaper_jax" / "run" / "supervisor")
    if supervisor:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(int(supervisor), signal.SIGKILL)
    shutil.rmtree(home(host), ignore_errors=True)
  NODE.unlink(missing_ok=True)


def ssh(host, command):
  environment = {**os.environ, "HOME": str(home(host)), "HOST_NUMBER": host}
  return subprocess.run(["bash", "-c", command], cwd=home(host), env=environment).returncode


def curl(*arguments):
  """Google's metadata server."""
  values = {
    "agent-worker-number": os.environ["HOST_NUMBER"],
    "worker-network-endpoints": "a:1:10.1.0.1,b:2:10.1.0.2",
  }
  print(values[arguments[-1].rpartition("/attributes/")[2]])


def python3(*arguments):
  """A Python that makes virtual environments of stand-ins."""
  if arguments[0] == "-c":
    sys.exit((CLOUD / "old_python").exists())
  if "venv" in arguments:
    directory = pathlib.Path(arguments[-1], "bin")
    directory.mkdir(parents=True)
    (directory / "python").symlink_to(CLOUD / "bin" / "stand_in")
    (directory / "pip").symlink_to(CLOUD / "bin" / "pip")


def mountpoint(*arguments):
  sys.exit(1)


if __name__ == "__main__":
  program, *rest = sys.argv[1:]
  with (CLOUD / "calls").open("a") as calls:
    print(json.dumps([program, *rest]), file=calls)
  function = globals().get(program)
  if function:
    function(*rest)
