"""Text is read and written in UTF-8, whatever the locale."""

import ast
import re

import pytest
from commands import ROOT

FILES = sorted(
  path
  for directory in ("speedpaper_jax", "configs", "benchmarks", "launch")
  for path in (ROOT / directory).rglob("*.py")
)
# With the number of their arguments that come before the encoding.
_OF_PATHS = {"read_text": 0, "write_text": 1}
_OF_SUBPROCESS = {"Popen", "run", "check_output", "check_call"}
_OF_TEXT = {"fdopen", "NamedTemporaryFile", "TemporaryFile"}


def without_encoding(source):
  """Lines of calls that read or write text in the locale's encoding."""
  calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
  return [call.lineno for call in calls if _takes_the_locales(call)]


def _takes_the_locales(call):
  named = {keyword.arg: keyword.value for keyword in call.keywords}
  if "encoding" in named or "force_zip64" in named:  # a member of an archive is bytes
    return False
  name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
  if name in _OF_SUBPROCESS:
    return "text" in named or "universal_newlines" in named
  if name in _OF_PATHS:
    return len(call.args) <= _OF_PATHS[name]
  arguments = [*call.args, *named.values()]
  if name in _OF_TEXT or (name == "open" and isinstance(call.func, ast.Name)):
    return "b" not in _mode(arguments)
  # Of a path, or of a module such as gzip, which reads bytes unless told "t".
  return name == "open" and _mode(arguments) in ("r", "w", "a", "x", "rt", "wt", "at", "xt")


def _mode(arguments):
  texts = [each.value for each in arguments if isinstance(each, ast.Constant)]
  modes = (each for each in texts if isinstance(each, str) and re.fullmatch("[rwax+]+[bt]?", each))
  return next(modes, "")


@pytest.mark.parametrize(
  "source",
  [
    "path.read_text()",
    "path.read_text(errors='replace')",
    "path.write_text(text)",
    "open('file')",
    "path.open(mode='w')",
    "open(path, 'w')",
    "path.open('a')",
    "gzip.open(path, 'rt')",
    "os.fdopen(descriptor, 'w')",
    "subprocess.run(command, text=True)",
    "tempfile.NamedTemporaryFile('w')",
  ],
)
def test_what_counts(source):
  assert without_encoding(source) == [1]


@pytest.mark.parametrize(
  "source",
  [
    "path.read_text(encoding='utf-8')",
    "path.open('rb')",
    "directory.write_text('name', text)",
    "open(path, 'wb')",
    "gzip.open(path)",
    "Image.open(path)",
    "tarfile.open(path, 'r:gz')",
    "subprocess.run(command)",
    "tempfile.NamedTemporaryFile('wb')",
  ],
)
def test_what_does_not(source):
  assert without_encoding(source) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_has_an_encoding(path):
  assert without_encoding(path.read_text(encoding="utf-8")) == []
