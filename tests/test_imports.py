"""Training and evaluation need neither TensorFlow nor PyTorch, even where they are installed."""

from commands import ROOT, finish, flags, start

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import speedpaper_jax
for module in pkgutil.walk_packages(speedpaper_jax.__path__, "speedpaper_jax."):
  importlib.import_module(module.name)
"""
TRAIN = """

import runpy, sys
try:
  runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
  assert not end.code
assert "speedpaper_jax.reports.train" in sys.modules
"""
REPORT = """
print(sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "torch"}))
"""


def last_line(process):
  status, output, errors = finish(process)
  assert status == 0, errors
  return output.splitlines()[-1]


def test_modules(scratch):
  assert last_line(start(scratch, "-c", IMPORT_EVERYTHING + REPORT)) == "[]"


def test_a_run(scratch, tmp_path):
  arguments = [
    str(ROOT / "tests" / "tiny.py"),
    f"--config={ROOT}/configs/bn_inception.py",
    f"--workdir={tmp_path}",
    *flags(duration="2 steps"),
  ]
  program = f"import sys; sys.argv = {arguments!r}" + TRAIN + REPORT
  assert last_line(start(scratch, "-c", program, seconds_per_step=0)) == "[]"
  assert (tmp_path / "summary.json").exists()


def test_reports_read_files_only(scratch):
  program = """
import importlib, pkgutil, sys
from speedpaper_jax import report, reports
for module in pkgutil.walk_packages(reports.__path__, "speedpaper_jax.reports."):
  importlib.import_module(module.name)
print(sorted(sys.modules.keys() & {"jax", "flax", "tensorflow_datasets"}))
"""
  assert last_line(start(scratch, "-c", program)) == "[]"
