"""The rooms of the package, and what none of them may import; docs/architecture.md draws them."""

import ast
import functools
import graphlib

import pytest
from commands import ROOT

PACKAGE = "speedpaper_jax"
# What lies at the top, beside the rooms.
COMMANDS = {
  *("main", "evaluate", "predict", "convert", "compare", "report", "explain", "describe"),
  *("benchmark", "compile_check", "export", "features", "fid", "weights", "reproduce"),
}
NEVER = {
  "models": {"data", "storage", "steps", "training"},
  "steps": {"storage", "inference"},
  "inference": {"training"},
  "reports": {"experiments", "models", "training"},
}


def imported(path):
  """Names of this package's modules that a file imports, and of what it takes from them."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}."))
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}, line {node.lineno}: name the package, as everywhere else"
      if node.module.partition(".")[0] == PACKAGE:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def arrows():
  """Each import as the importing file's path in the package, and the parts of the name after it."""
  return [
    (path.relative_to(ROOT / PACKAGE), tuple(name.split(".")[1:]))
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
    for name in imported(path)
  ]


def is_command(path):
  return len(path.parts) == 1 or "__main__" in (ROOT / PACKAGE / path).read_text(encoding="utf-8")


def test_beside_the_rooms_lie_commands_and_errors():
  loose = {path.stem for path in (ROOT / PACKAGE).glob("*.py")}
  assert loose == COMMANDS | {"__init__", "errors"}


@pytest.mark.parametrize(
  ("room", "other"), [(room, other) for room, others in NEVER.items() for other in sorted(others)]
)
def test_never(room, other):
  assert not [path for path, name in arrows() if path.parts[0] == room and name[0] == other]


def test_nothing_imports_a_command():
  assert not [(path, name) for path, name in arrows() if name[0] in COMMANDS]
  commands = {path.with_suffix("").parts for path, _ in arrows() if is_command(path)}
  assert not [(path, name) for path, name in arrows() if name[:2] in commands]


def test_no_arrow_between_rooms_runs_back():
  rooms = {}
  for path, name in arrows():
    if not is_command(path) and name[0] not in ("errors", path.parts[0]):
      rooms.setdefault(path.parts[0], set()).add(name[0])
  graphlib.TopologicalSorter(rooms).prepare()  # which raises an error where there is a circle
