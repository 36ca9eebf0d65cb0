"""In place of `python -m speedpaper_jax.main` on one of several hosts: a counter with checkpoints.

It does what launchers rely on: the processes wait for each other before they begin; process 0
saves, and all go on from the newest checkpoint; SIGTERM to any of them, or the end of any, ends all
with status 75.
"""

import argparse
import os
import pathlib
import signal
import sys
import time


def main():
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument("-m")
  parser.add_argument("--config")
  parser.add_argument("--workdir", type=pathlib.Path)
  parser.add_argument("--coordinator_address")
  parser.add_argument("--process_count", type=int, default=int(os.environ.get("SLURM_NTASKS", 1)))
  parser.add_argument("--process_index", type=int, default=int(os.environ.get("SLURM_PROCID", 0)))
  parser.add_argument("--steps", type=int, default=8)
  # STEP:WHAT:PROCESS for the first start, for the second and so on; WHAT is a status, `kill` or
  # `preempt`, the end of the fake TPU below.
  parser.add_argument("--plan", default="")
  arguments = parser.parse_args()
  workdir, index = arguments.workdir, arguments.process_index

  checkpoints = workdir / "checkpoints"
  checkpoints.mkdir(parents=True, exist_ok=True)
  starts = workdir / f"starts-{index}"
  with starts.open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\n")
  number = len(starts.read_text().splitlines())
  events = [event.split(":") for event in arguments.plan.split(",") if event]
  at, what, whose = events[number - 1] if number <= len(events) else (0, "", -1)

  end = workdir / f"end-of-start-{number}"
  signals = []

  def end_all(number, _):
    signals.append(number)
    end.touch()

  signal.signal(signal.SIGTERM, end_all)
  step = max((int(path.name) for path in checkpoints.iterdir()), default=0)
  for other in range(arguments.process_count):
    file = workdir / f"starts-{other}"
    while not file.exists() or len(file.read_text().splitlines()) < number:
      time.sleep(0.01)
  print(f"process {index} starts from step {step}", flush=True)
  while not end.exists() and not (workdir / "finished").exists():
    time.sleep(0.05)
    if int(whose) == index and step >= int(at):
      if what == "preempt":
        pathlib.Path(os.environ["FAKE_CLOUD"], "preempted").touch()
        time.sleep(60)
      end.touch()
      print(f"process {index} ends by plan at step {step}", flush=True)
      if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
      sys.exit(int(what))
    step += 1
    if index == 0:
      print(f"step {step}", flush=True)
      if step >= arguments.steps:
        (workdir / "finished").touch()
      (checkpoints / str(step)).mkdir(exist_ok=True)
  if (workdir / "finished").exists():
    print(f"process {index} has finished", flush=True)
    return
  if index == 0:
    time.sleep(1)  # saves, in which another signal would disturb it
  print(f"process {index} ends at step {step}, signals: {signals}", flush=True)
  sys.exit(os.EX_TEMPFAIL)


main()
