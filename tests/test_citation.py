"""CITATION.cff, by which GitHub and reference managers cite: this version, and the four papers."""

import tomllib

import pytest
import yaml
from commands import ROOT

import speedpaper_jax

PAPERS = {"1502.03167", "1409.4842", "1512.00567", "1602.07261"}


@pytest.fixture(scope="module")
def citation():
  return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_has_what_the_format_requires(citation):
  assert citation["cff-version"] == "1.2.0"
  assert citation.keys() >= {"authors", "message", "title"}
  for reference in citation["references"]:
    assert reference.keys() >= {"authors", "title", "type"}


def test_is_of_this_version(citation):
  project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
  assert citation["title"] == project["name"]
  assert citation["license"] == project["license"]
  assert citation["version"] == speedpaper_jax.__version__


def test_names_the_papers(citation):
  addresses = {reference["url"] for reference in citation["references"]}
  assert addresses == {f"https://arxiv.org/abs/{paper}" for paper in PAPERS}
  identifiers = {reference["doi"] for reference in citation["references"]}
  assert identifiers == {f"10.48550/arXiv.{paper}" for paper in PAPERS}
