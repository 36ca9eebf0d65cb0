"""A page as HTML: complete in itself, and never led astray by what it shows."""

import re
import shlex

import pytest
import reading_html

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import rendering
from speedpaper_jax.reports.drawing import draw
from speedpaper_jax.reports.page import Figure, Page, Section, Table
from speedpaper_jax.reports.rendering import Record
from speedpaper_jax.storage.run_directory import RunDirectory

HOSTILE = (
  """</title></style><script>alert('1')</script>"><img src="http://x" onerror='x'> {{ 7*7 }}"""
)


@pytest.fixture
def directory(tmp_path):
  directory = RunDirectory(tmp_path)
  draw(directory, "curve", lambda figure: figure.subplots().plot([1, 2]))
  return directory


@pytest.fixture
def render(directory):
  def render_and_read(page, record=None):
    directory.write_text("report.html", rendering.render(page, directory.plots, record))
    return reading_html.read(directory.path / "report.html")

  return render_and_read


def page_of(*parts, paragraphs=(), title="A title", result="A result."):
  return Page(title, result, [Section("A section", paragraphs, parts)])


def record_of(**fields):
  empty = {"commands": (), "finished": "", "machine": {}, "versions": {}, "config": {}}
  return Record(**{**empty, **fields})


class TestStructure:
  def test_title_result_and_section(self, render):
    page = render(page_of(paragraphs=["One.", "Two."]))
    assert page.text["h1"] == ["A title"]
    assert page.text["p"] == ["A result.", "One.", "Two."]
    assert page.text["h2"] == ["A section"]

  def test_figure(self, render):
    page = render(page_of(Figure("curve", "A curve.")))
    (image,), (dark,) = page.all("img"), page.all("source")
    assert image["src"].startswith("data:image/png;base64,")
    assert dark["srcset"].startswith("data:image/png;base64,")
    assert image["src"] != dark["srcset"]
    assert dark["media"] == "screen and (prefers-color-scheme: dark)"
    assert (image["width"], image["height"]) == ("756", "454")
    assert image["alt"] == "A curve."
    assert page.text["figcaption"] == ["A curve."]

  def test_a_figure_that_was_not_drawn(self, render):
    with pytest.raises(UserError, match=r"another\.png cannot be read: No such file"):
      render(page_of(Figure("another", "A curve.")))

  def test_table(self, render):
    page = render(page_of(Table(("name", "value"), [("a", "1"), ("b", "2")], "Some values.")))
    assert page.text["caption"] == [""]
    assert page.text["span"] == ["Some values."]
    assert [head["scope"] for head in page.all("th")] == ["col", "col", "row", "row"]
    assert page.text["th"] == ["name", "value", "a", "b"]
    assert page.text["td"] == ["1", "2"]
    assert [cell.get("class") for cell in page.all("td")] == ["number", "number"]

  def test_a_table_without_rows(self, render):
    page = render(page_of(Table(("name", "value"), [], "Nothing.")))
    assert page.text["th"] == ["name", "value"]

  @pytest.mark.parametrize(
    ("cells", "number"),
    [
      (["1", "–"], True),
      (["-0.5", "−3e-05", "± 2", "< 0.1"], True),
      (["98.87 %", "1,797", "2.7 min", "230 images/s", "31:02"], True),
      (["1", "never"], True),
      (["1", "not at all"], False),
      (["1,234 (1,100–1,400)", "2 (1.5 to 2.5)", "undefined"], True),
      (["2.4 (2.1–2.8), 1 never"], False),
      (["relu", "tanh"], False),
      (["3 of 4"], False),
      (["28×28", "1 epochs"], False),
      (["", ""], False),
    ],
  )
  def test_columns_of_numbers_are_aligned_on_the_right(self, render, cells, number):
    page = render(page_of(Table(("name", "value"), [("a", cell) for cell in cells], "Values.")))
    assert {cell.get("class") for cell in page.all("td")} == {"number" if number else None}

  def test_code(self, render):
    page = render(page_of(paragraphs=["Set `config.seed` to `1`.", "`python -m it`"]))
    assert page.text["code"] == ["config.seed", "1", "python -m it"]
    assert len(page.all("pre")) == 1

  def test_a_number_and_its_percent_sign_stay_together(self, render):
    page = render(page_of(result="It is 99.1 % of 100.", paragraphs=["Or 5 %."]))
    assert page.text["p"] == ["It is 99.1\N{NO-BREAK SPACE}% of 100.", "Or 5\N{NO-BREAK SPACE}%."]


class TestRecord:
  def test_all_of_it(self, render):
    record = record_of(
      commands=["python -m speedpaper_jax.main --config=c.py"],
      finished="2026-11-21 18:19:47 UTC",
      machine={"cores": "2"},
      versions={"jax": "0.10.2", "flax": "0.12.8"},
      config={"seed": 0, "model.name": "bn_inception", "init_from": "", "scales": [0.1, None]},
    )
    page = render(page_of(), record)
    assert page.text["code"] == [
      "python -m speedpaper_jax.main --config=c.py",
      *("seed", "0"),
      *("model.name", "bn_inception"),
      *("init_from", '""'),
      *("scales", "[0.1, null]"),
    ]
    assert page.text["dd"][:3] == ["2026-11-21 18:19:47 UTC", "2", "jax 0.10.2, flax 0.12.8"]
    assert page.text["summary"] == ["The config, 4 fields"]
    assert page.all("details") == [{}]  # closed

  def test_of_a_run_that_recorded_nothing_else(self, render):
    page = render(page_of(), record_of(config={"seed": 0}))
    assert page.text["code"] == ["seed", "0"]
    assert not page.all("pre")

  def test_a_long_command_is_shown_in_lines_that_a_shell_takes(self, render):
    command = (
      "python -m speedpaper_jax.main --config=c.py --config.duration='4 epochs' --workdir a b"
    )
    page = render(page_of(), record_of(commands=[command], config={"seed": 0}))
    shown = page.text["code"][0]
    assert shown.splitlines()[:2] == ["python -m speedpaper_jax.main \\", "  --config=c.py \\"]
    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(command)


class TestHostileText:
  """Names of classes and directories, and values of a config, may hold anything."""

  @pytest.fixture
  def page(self, render):
    figure, table = Figure("curve", HOSTILE), Table((HOSTILE, "b"), [(HOSTILE, "c")], HOSTILE)
    page = page_of(
      figure, table, paragraphs=[HOSTILE, f"`{HOSTILE}`"], title=HOSTILE, result=HOSTILE
    )
    record = record_of(
      commands=[HOSTILE],
      finished=HOSTILE,
      machine={HOSTILE: HOSTILE},
      versions={HOSTILE: HOSTILE},
      config={HOSTILE: HOSTILE},
    )
    return render(page, record)

  def test_becomes_no_element(self, page):
    assert not page.all("script")
    assert len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.elements)

  def test_is_shown_as_it_is(self, page):
    assert page.text["h1"] == [HOSTILE]
    assert page.text["p"] == [HOSTILE, HOSTILE]
    assert page.text["code"] == [HOSTILE] * 4
    assert page.all("img")[0]["alt"] == HOSTILE
    assert page.words().count(HOSTILE) == 17

  def test_that_is_no_valid_text(self, render):
    assert render(page_of(result="a\udcffb")).text["p"] == ["a?b"]


def test_the_page_lets_the_browser_fetch_nothing(render):
  (policy,) = (
    meta["content"]
    for meta in render(page_of()).all("meta")
    if meta.get("http-equiv") == "Content-Security-Policy"
  )
  assert re.fullmatch(r"default-src 'none'; img-src data:; style-src 'unsafe-inline'", policy)


def test_flatten():
  config = {"seed": 0, "model": {"name": "a", "scales": [1], "empty": {}}}
  assert dict(rendering.flatten(config)) == {
    "seed": 0,
    "model.name": "a",
    "model.scales": [1],
    "model.empty": {},
  }
