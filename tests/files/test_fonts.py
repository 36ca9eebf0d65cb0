"""Names in any script are legible in figures, as far as installed fonts have them."""

import io

import matplotlib.figure
import pytest
from matplotlib import font_manager

from speedpaper_jax import errors
from speedpaper_jax.files import fonts

_OTHER = "STIXGeneral"  # comes with matplotlib, too
_ITS = "\u1d81"  # which DejaVu Sans lacks


@pytest.fixture
def install(monkeypatch):
  """Makes these fonts the only ones beside matplotlib's own."""
  monkeypatch.setattr(errors, "_printed_once", set())

  def install(*families):
    files = [(family, font_manager.findfont(family)) for family in families]
    monkeypatch.setattr(fonts, "_installed", lambda: files)

  return install


def draw(name):
  """A figure with a name as title, in a legend and beside a bar."""
  figure = matplotlib.figure.Figure(layout="constrained")
  axes = figure.subplots()
  axes.barh([0, 1], [1, 2], label=name)
  axes.set_yticks([0, 1], [name, "rose"], parse_math=False)
  axes.set_title(name, parse_math=False)
  axes.legend()
  return figure


def legible(name):
  """Title, legend and label of a figure, drawn without a warning, and the fonts of each."""
  figure = draw(name)
  fonts.make_legible(figure)
  figure.savefig(io.BytesIO(), format="png")
  (axes,) = figure.axes
  artists = [axes.title, axes.get_legend().get_texts()[0], axes.get_yticklabels()[0]]
  (text,) = {artist.get_text() for artist in artists}
  (families,) = {tuple(artist.get_fontfamily()) for artist in artists}
  return text, list(families)


@pytest.mark.parametrize("name", ["rose", "кошка", "γ × σ² → ∂ℓ…", "a\nb"])
def test_what_matplotlibs_font_has_stays_as_it_is(install, capsys, name):
  install(_OTHER)
  assert legible(name) == (name, ["sans-serif"])
  assert capsys.readouterr().err == ""


def test_a_font_that_has_the_characters_is_taken(install, capsys):
  install(_OTHER)
  assert legible(f"rose {_ITS}") == (f"rose {_ITS}", ["DejaVu Sans", _OTHER])
  assert capsys.readouterr().err == ""


def test_fonts_that_add_nothing_are_not_taken(install):
  install("DejaVu Serif", _OTHER)
  assert legible(_ITS)[1] == ["DejaVu Sans", _OTHER]


@pytest.mark.parametrize(
  ("name", "shown", "told"),
  [
    ("猫", r"\u732b", "no installed font has 猫;"),
    ("玫瑰 rose", r"\u73ab\u7470 rose", "no installed font has 玫 瑰;"),
    ("한국어", r"\ud55c\uad6d\uc5b4", "no installed font has 국 어 한;"),
    ("👩\u200d🔬", r"\U0001f469\U0001f52c", "no installed font has 👩 🔬;"),
    (
      "一二三四五六",
      r"\u4e00\u4e8c\u4e09\u56db\u4e94\u516d",
      "no installed font has 一 三 二 五 六 …;",
    ),
  ],
)
def test_what_no_font_has_is_drawn_as_its_code_and_told_once(install, capsys, name, shown, told):
  install(_OTHER)
  assert legible(name) == (shown, ["DejaVu Sans"])
  assert legible(name)[0] == shown
  message = capsys.readouterr().err
  assert told in message
  assert "Install a font that has them" in message
  assert message.count("\n") == 1


def test_text_as_it_is_drawn(install, capsys):
  install(_OTHER)
  assert fonts.as_drawn(["rose", "猫\u200d", _ITS]) == ["rose", r"\u732b", _ITS]
  assert fonts.as_drawn(["猫"]) == [legible("猫")[0]]
  assert "no installed font has 猫;" in capsys.readouterr().err


def test_the_font_of_boxes_is_not_taken():
  assert not any("Last Resort" in family for family, _ in fonts._installed())


def test_chinese_fonts_come_first(monkeypatch):
  entries = [
    font_manager.FontEntry(fname=name, name=name, style=style)
    for name, style in [("Aaa", "normal"), ("SimHei", "normal"), ("Noto Sans CJK SC", "italic")]
  ]
  monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
  monkeypatch.setattr(font_manager, "findSystemFonts", list)
  assert fonts._installed() == [("SimHei", "SimHei"), ("Aaa", "Aaa")]
