"""The ranges in pyproject.toml, the lock that was tested, and the extras that the code names."""

import importlib.metadata
import re
import tomllib

import pytest
from commands import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from speedpaper_jax.command_line import extras

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GROUPS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
RANGES = [
  (group, requirement)
  for group, requirements in GROUPS.items()
  for requirement in map(Requirement, requirements)
  if requirement.name != PROJECT["name"]
]
# Of PyTorch in a comment: a command of its own installs it.
PINS = {
  canonicalize_name(name): version
  for path in ROOT.glob("requirements*.txt")
  for name, version in re.findall(r"([\w-]+)==([\w.]+)", path.read_text(encoding="utf-8"))
}


def names(*groups):
  return {canonicalize_name(range_.name) for group, range_ in RANGES if group in groups}


@pytest.mark.parametrize(("group", "range_"), RANGES, ids=str)
def test_what_was_tested_is_within_a_range(group, range_):
  assert PINS[canonicalize_name(range_.name)] in range_.specifier


def test_the_lock_has_what_training_needs_and_nothing_else():
  lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
  pinned = {canonicalize_name(line.split("==")[0]) for line in lines if not line.startswith("#")}
  assert pinned == names("", "reports", "train")


def test_each_module_is_brought_by_the_extra_that_is_named():
  distributions = importlib.metadata.packages_distributions()
  found = set()
  for module, extra in extras.EXTRAS.items():
    (name,) = map(canonicalize_name, distributions.get(module, [module]))
    assert name in names(extra), module
    found.add(name)
  assert found == names(*PROJECT["optional-dependencies"])


@pytest.mark.parametrize("extra", extras.LOCKS)
def test_what_a_clone_is_told_to_install_is_the_lock(extra):
  pinned = re.findall(r"(\w+)==([\w.]+)", extras.LOCKS[extra])
  assert dict(pinned).keys() == names(extra)
  assert set(pinned) <= PINS.items()
