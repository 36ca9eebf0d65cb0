"""Text in figures that matplotlib's own font has no glyphs for, such as names in Chinese."""

import contextlib
import functools
from collections.abc import Iterable, Sequence

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter, FuncFormatter

from speedpaper_jax.errors import warn_once

_OWN = "DejaVu Sans"  # comes with matplotlib

# Where several fonts have a character, these are taken first: upright ones without serifs.
_PREFERRED = (
  "Noto Sans CJK SC",
  "Noto Sans CJK JP",
  "Source Han Sans SC",
  "WenQuanYi Zen Hei",
  "WenQuanYi Micro Hei",
  "PingFang SC",
  "Hiragino Sans GB",
  "Heiti TC",
  "Microsoft YaHei",
  "SimHei",
)

# Joiners and selectors of variants, which show nothing by themselves.
_INVISIBLE = {0x200C, 0x200D, *range(0xFE00, 0xFE10)}
_LAYOUT = {ord("\n"), ord("\t")}
_EXAMPLES = 5


def make_legible(figure: Figure) -> None:
  r"""Gives the text of a figure that is about to be saved fonts that have its characters.

  What no installed font has is drawn as its code, such as `\u732b`, with a warning.
  """
  texts = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
  axes = [axis for axis in figure.findobj(Axis) if isinstance(axis, Axis)]
  on_ticks = [label for axis in axes for label in axis.get_ticklabels()]
  families, codes = _fonts_and_codes(each.get_text() for each in [*texts, *on_ticks])
  if not families and not codes:
    return
  for artist in texts:
    artist.set_fontfamily([_OWN, *families])
    artist.set_text(artist.get_text().translate(codes))
  for axis in axes:
    axis.set_tick_params(labelfontfamily=[_OWN, *families])
    labels = "".join(label.get_text() for label in axis.get_ticklabels())
    if labels.translate(codes) != labels:
      axis.set_major_formatter(_with_codes(axis.get_major_formatter(), codes))


def as_drawn(texts: Sequence[str]) -> list[str]:
  """The texts as `make_legible` has them drawn, whose codes are longer; with the same warning."""
  _, codes = _fonts_and_codes(texts)
  return [text.translate(codes) for text in texts]


def _fonts_and_codes(texts: Iterable[str]) -> tuple[list[str], dict[int, str]]:
  """Fonts to have beside matplotlib's own, and what to draw for characters that none has."""
  shown = {ord(character) for text in texts for character in text}
  foreign = shown - _characters(font_manager.findfont(_OWN)) - _LAYOUT
  if not foreign:
    return [], {}
  families, missing = _cover(foreign - _INVISIBLE)
  if missing:
    examples = " ".join(map(chr, sorted(missing)[:_EXAMPLES]))
    more = " …" if len(missing) > _EXAMPLES else ""
    warn_once(
      f"no installed font has {examples}{more}; such characters are drawn as codes. Install a font "
      f"that has them, as Noto Sans CJK (fonts-noto-cjk in Debian and Ubuntu) has Chinese, "
      f"Japanese and Korean."
    )
  return families, {number: _code(number) for number in missing} | dict.fromkeys(_INVISIBLE, "")


def _with_codes(formatter: Formatter, codes: dict[int, str]) -> FuncFormatter:
  """Ticks take their labels from there each time when they are drawn."""
  return FuncFormatter(lambda value, position: formatter(value, position).translate(codes))


def _cover(missing: set[int]) -> tuple[list[str], set[int]]:
  """Names of fonts that together have the characters, and those that none has."""
  families = []
  for family, path in _installed() if missing else ():
    if missing and (found := missing & _characters(path)):
      families.append(family)
      missing = missing - found
  return families, missing


def _installed() -> list[tuple[str, str]]:
  """Names and files of the fonts, the preferred ones first."""
  manager = font_manager.fontManager
  known = {entry.fname for entry in manager.ttflist}
  for path in font_manager.findSystemFonts():
    if path not in known:  # it was installed after matplotlib last looked
      with contextlib.suppress(OSError, RuntimeError, ValueError):  # as fonts are damaged
        manager.addfont(path)
  files: dict[str, str] = {}
  for entry in manager.ttflist:
    # The font of last resort, which comes with matplotlib, has boxes for all characters.
    if entry.style == "normal" and not entry.name.startswith("Last Resort"):
      files.setdefault(entry.name, entry.fname)
  ranks = {name: rank for rank, name in enumerate(_PREFERRED)}
  return sorted(files.items(), key=lambda item: (ranks.get(item[0], len(ranks)), item[0]))


@functools.cache
def _characters(path: str) -> frozenset[int]:
  """Numbers of the characters that a font can draw at any size."""
  try:
    font = font_manager.get_font(path)
  except (OSError, RuntimeError, ValueError):
    return frozenset()
  return frozenset(font.get_charmap()) if font.scalable else frozenset()


def _code(number: int) -> str:
  return chr(number).encode("unicode_escape").decode("ascii")
