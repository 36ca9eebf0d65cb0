"""The wheel, and environments that hold it beside what it requires and nothing else."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv

from commands import ROOT, TEN_MINUTES
from packaging.requirements import Requirement

_SOURCES = ("LICENSE", "README.md", "pyproject.toml")


def build_wheel(directory):
  """Builds the wheel from a copy, so that the tree stays as it is; returns its path."""
  source = directory / "source"
  shutil.copytree(
    ROOT / "speedpaper_jax",
    source / "speedpaper_jax",
    ignore=shutil.ignore_patterns("__pycache__"),
  )
  for name in _SOURCES:
    shutil.copy(ROOT / name, source)
  _pip("wheel", "--no-build-isolation", f"--wheel-dir={directory}", source)
  (wheel,) = directory.glob("*.whl")
  return wheel


class Environment:
  """A virtual environment with the wheel, and links to the packages that it requires."""

  def __init__(self, directory, wheel, *extras):
    venv.create(directory / "venv")
    paths = sysconfig.get_paths(vars={"base": str(directory / "venv")}, scheme="venv")
    self._python = pathlib.Path(paths["scripts"]) / "python"
    self.home = directory / "home"
    self.home.mkdir()
    packages = pathlib.Path(paths["purelib"])
    _pip("install", f"--target={packages}", wheel)
    for distribution in _required([str(packages), *sys.path], "speedpaper_jax", extras):
      _link(distribution, packages)

  def run(self, *arguments):
    """Runs `python …` where no clone is, as a user who has nothing else set up."""
    return subprocess.run(
      [self._python, *map(str, arguments)],
      cwd=self.home,
      env={
        "HOME": str(self.home),
        "JAX_PLATFORMS": "cpu",
        "LC_ALL": "C.UTF-8",
        "PATH": os.environ["PATH"],
      },
      capture_output=True,
      text=True,
      timeout=TEN_MINUTES,
    )


def _pip(command, *arguments):
  common = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
  subprocess.run([sys.executable, "-m", "pip", command, *common, *map(str, arguments)], check=True)


def _required(path, name, extras):
  """The installed distributions that one of them requires with its extras, and theirs in turn."""
  seen, waiting = set(), [(name, extra) for extra in ("", *extras)]
  for name, extra in waiting:  # which grows meanwhile
    if (name, extra) in seen:
      continue
    seen.add((name, extra))
    distribution = next(importlib.metadata.distributions(name=name, path=path))
    for requirement in map(Requirement, distribution.requires or ()):
      if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
        waiting += [(requirement.name, each) for each in ("", *requirement.extras)]
    yield distribution


def _link(distribution, packages):
  for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
    if not (packages / top).exists():
      (packages / top).symlink_to(distribution.locate_file(top))
