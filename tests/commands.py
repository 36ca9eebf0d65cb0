"""Commands of the package in processes of their own, on one CPU device or several virtual ones."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import tiny

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = f"--config={ROOT}/configs/bn_inception.py"
MAIN = ("-m", "speedpaper_jax.main", CONFIG)
TINY = (ROOT / "tests" / "tiny.py", CONFIG)
EVALUATE = ("-m", "speedpaper_jax.evaluate")
TEN_MINUTES = 600
# Each file that is run with `python -m`.
MODULES = sorted(
  ".".join(path.relative_to(ROOT).with_suffix("").parts)
  for package in ("speedpaper_jax", "benchmarks")
  for path in (ROOT / package).rglob("*.py")
  if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def flags(settings=tiny.SETTINGS, **changes):
  """Settings of a config as flags; in `changes`, `__` stands for a dot."""
  changes = {name.replace("__", "."): value for name, value in changes.items()}
  return [f"--config.{name}={value}" for name, value in {**settings, **changes}.items()]


def start(scratch, *arguments, devices=1, seconds_per_step=0.1, cwd=ROOT):
  """Starts `python …`; prepared data is kept in `scratch`."""
  return subprocess.Popen(
    [sys.executable, *map(str, arguments)],
    cwd=cwd,
    env=environment_of(scratch, devices, seconds_per_step),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def launch(
  scratch,
  *arguments,
  processes=2,
  devices=1,
  restarts=0,
  grace=10,
  program="-m speedpaper_jax.main",
  **options,
):
  """Starts launch/local.py, which starts a program several times with the arguments."""
  return start(
    scratch,
    ROOT / "launch" / "local.py",
    f"--processes={processes}",
    f"--devices={devices}",
    f"--restarts={restarts}",
    f"--grace={grace}",
    f"--program={program}",
    "--",
    *arguments,
    **options,
  )


def environment_of(scratch, devices, seconds_per_step):
  """Variables of a process that trains."""
  return {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    "TFDS_DATA_DIR": str(scratch / "data"),
    "SECONDS_PER_STEP": str(seconds_per_step),
  }


def finish(process):
  """Waits for the end; returns exit status, standard output and standard error."""
  try:
    output, errors = process.communicate(timeout=TEN_MINUTES)
  finally:
    process.kill()
  return process.returncode, output, errors


def run(scratch, *arguments, **options):
  """Runs a command that must succeed; returns what it printed."""
  status, output, errors = finish(start(scratch, *arguments, **options))
  assert status == 0, output + errors
  return output


def kill(process):
  """Ends a process in the middle of whatever it does."""
  process.send_signal(signal.SIGKILL)
  return finish(process)


def wait_for_step(process, step):
  """Reads until the line of a training step appears."""
  while line := process.stdout.readline():
    if line.startswith("step") and line.split("/")[0].split()[1] == str(step):
      return
  raise AssertionError(f"no line of step {step}: {process.stderr.read()}")


def wait_until(process, condition):
  """Asks again and again, without a pause, until `condition()` is true."""
  deadline = time.monotonic() + TEN_MINUTES
  while not condition():
    assert process.poll() is None, "the process ended before: " + process.stderr.read()
    assert time.monotonic() < deadline
