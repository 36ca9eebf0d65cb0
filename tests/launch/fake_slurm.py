"""In place of srun, scontrol, squeue and scancel: `fake_slurm.py PROGRAM ARGUMENTS…`.

The directory $FAKE_SLURM has `calls`, a JSON list for each call; `state`, the job's, which squeue
prints; and `tasks`, the numbers of the processes that srun has started, all on this machine.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

SLURM = pathlib.Path(os.environ["FAKE_SLURM"])


def srun(*arguments):
  words = list(arguments)
  while words[0].startswith("--"):
    words.pop(0)
  tasks = [start(words, number) for number in range(int(os.environ["SLURM_NTASKS"]))]
  (SLURM / "tasks").write_text(" ".join(str(task.pid) for task in tasks))
  statuses = [task.wait() for task in tasks]
  sys.exit(max(128 - status if status < 0 else status for status in statuses))


def start(words, number):
  environment = {**os.environ, "SLURM_PROCID": str(number)}
  return subprocess.Popen(words, env=environment, start_new_session=True)


def squeue(*arguments):
  print((SLURM / "state").read_text())


def scancel(*arguments):
  for task in (SLURM / "tasks").read_text().split():
    os.killpg(int(task), signal.SIGTERM)


program, *rest = sys.argv[1:]
with (SLURM / "calls").open("a") as calls:
  print(json.dumps([program, *rest]), file=calls)
function = globals().get(program)
if function:
  function(*rest)
