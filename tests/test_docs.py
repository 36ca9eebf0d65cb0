"""The documents: what they name exists, and the README says the same in both languages."""

import ast
import collections
import functools
import importlib
import pathlib
import re

import pytest

from speedpaper_jax.config import files as config_files
from speedpaper_jax.config.defaults import train_config

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")])
README, README_IN_CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# [`models/ops.py`](../speedpaper_jax/models/ops.py) → `max_pool`, `avg_pool`
NAMES_OF_A_FILE = re.compile(r"\]\(\.\./([^)]+\.py)\) → (`[^`]+`(?:, `[^`]+`)*)")


def page(function):
  return pytest.mark.parametrize(
    "path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES]
  )(function)


def blocks(path):
  """The fenced blocks' contents."""
  return [content for _, content in BLOCK.findall(path.read_text(encoding="utf-8"))]


def prose(path):
  """What is not in fenced blocks."""
  return BLOCK.sub("", path.read_text(encoding="utf-8"))


def spans(path):
  """Code within the prose, each on one line."""
  return [" ".join(span.split()) for span in SPAN.findall(prose(path))]


def without_comments(content):
  return [re.sub(r"\s+# .*$", "", line) for line in content.splitlines()]


def commands(path):
  """Single commands of fenced blocks and of the prose."""
  lines = [line for content in blocks(path) for line in without_comments(content)]
  return [command for line in [*lines, *spans(path)] for command in line.split(" && ")]


def links(path):
  """Targets in the prose, pictures among them; what is code is no link."""
  return LINK.findall(re.sub(r"`[^`]*`", "", prose(path)))


def anchors(path):
  """Of a page's headings, as GitHub makes them."""
  headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@page
def test_links_lead_to_files_and_headings_that_exist(path):
  for target in links(path):
    if target.startswith("https://"):
      continue
    file, _, anchor = target.partition("#")
    linked = (path.parent / file).resolve() if file else path
    assert linked.exists(), target
    assert linked.is_relative_to(ROOT), target
    assert not anchor or anchor in anchors(linked), target


@page
def test_configs_load_and_have_the_fields_that_are_set(path):
  for command in commands(path):
    named = re.search(r"--config=(configs/[\w/]+\.py\S*)", command)
    config = config_files.load(f"{ROOT}/{named[1]}") if named else train_config()
    fields = re.findall(r"--config\.([\w.]+)", command)
    config_files.check_overrides(config, [f"--config.{field}=" for field in fields])


@page
def test_commands_are_modules_with_the_flags_that_are_set(path, capsys):
  for command in commands(path):
    named = re.search(r"-m ((?:speedpaper_jax|benchmarks)[\w.]*)(.*)", command)
    if named is None:
      continue
    module = importlib.import_module(named[1])
    known = flag_names(module, capsys)
    for flag in re.findall(r"--(\w+)", re.sub(r"--config\.[\w.]+", "", named[2])):
      assert flag in known, command


def flag_names(module, capsys):
  """Those that its help describes."""
  with pytest.raises(SystemExit):
    module.parse([module.__name__, "--help"])
  return set(re.findall(r"--(\w+)", capsys.readouterr().out))


class TestPaperToCode:
  PAGE = ROOT / "docs" / "paper_to_code.md"
  NAMES = tuple(
    (file, name)
    for file, names in NAMES_OF_A_FILE.findall(prose(PAGE))
    for name in SPAN.findall(names)
  )

  def test_names_are_found(self):
    arrows = prose(self.PAGE).count(" → `")
    assert len(NAMES_OF_A_FILE.findall(prose(self.PAGE))) == arrows > 100

  @pytest.mark.parametrize(("file", "name"), sorted(set(NAMES)))
  def test_the_file_defines_the_name(self, file, name):
    assert name in definitions(ROOT / file)


@functools.cache
def definitions(path):
  """Names that a file gives: `function`, `Class.method`, `Class.field`, `config.key`."""
  return set(_defined(ast.parse(path.read_text(encoding="utf-8")), ""))


def _defined(node, prefix):
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.FunctionDef | ast.ClassDef):
      yield prefix + child.name
      inner = f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
      yield from _defined(child, inner)
    else:
      if isinstance(child, ast.Assign):
        yield from (prefix + ast.unparse(target) for target in child.targets)
      elif isinstance(child, ast.AnnAssign):
        yield prefix + ast.unparse(child.target)
      yield from _defined(child, prefix)


class TestREADMEInChinese:
  def test_has_the_same_blocks(self):
    english, chinese = (
      [without_comments(content) for content in blocks(path)]
      for path in (README, README_IN_CHINESE)
    )
    assert chinese == english

  def test_has_the_same_commands_in_its_prose_and_tables(self):
    def found(path):
      return [span for span in spans(path) if "python" in span or span.startswith("--config=")]

    assert found(README_IN_CHINESE) == found(README)

  def test_names_the_same_flags_fields_and_files(self):
    english, chinese = (collections.Counter(spans(path)) for path in (README, README_IN_CHINESE))
    assert chinese == english

  def test_has_the_same_links_and_pictures(self):
    """But for those from one to the other, and to what is in Chinese alone."""
    english, chinese = (collections.Counter(links(path)) for path in (README, README_IN_CHINESE))
    del english["README.zh-CN.md"], chinese["README.md"], chinese["docs/walkthrough.zh-CN.md"]
    assert chinese == english

  def test_each_links_the_other(self):
    assert "README.zh-CN.md" in links(README)
    assert "README.md" in links(README_IN_CHINESE)
