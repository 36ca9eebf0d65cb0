"""All shell scripts of the repository are as shellcheck wants them."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SHEBANG = re.compile(rb"#!.*\b(ba|da)?sh\b")


def scripts():
  """Files that begin with a shell's name and that git does not ignore, in a clone or a copy."""
  listed = subprocess.run(
    ["git", "grep", "--no-index", "--exclude-standard", "--null", "--files-with-matches", "^#!"],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  paths = [ROOT / name for name in listed.stdout.split("\0") if name]
  return sorted({path for path in paths if path.is_file() and is_script(path)})


def is_script(path):
  with path.open("rb") as file:
    return bool(SHEBANG.match(file.readline(100)))


def test_the_scripts_are_found():
  names = {str(path.relative_to(ROOT)) for path in scripts()}
  assert {".ci/run", "launch/slurm.sbatch", "launch/tpu_pod.sh", "launch/tpu_worker.sh"} <= names


def test_shellcheck_finds_nothing():
  shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
  found = subprocess.run([shellcheck, *scripts()], stdout=subprocess.PIPE, text=True)
  assert found.returncode == 0, found.stdout
