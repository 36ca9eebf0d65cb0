"""What a report consists of; it says nothing of how that looks."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Figure:
  """A picture that `drawing.draw` has saved.

  Attributes:
    name: `plots/NAME.png` is for a light page, `plots/NAME.dark.png` for a dark one.
    caption: plain text; also what a reader has who cannot see the picture.
  """

  name: str
  caption: str


@dataclasses.dataclass(frozen=True)
class Table:
  """A table; its first column names the rows.

  Attributes:
    columns: headings.
    rows: text, already formatted; the page aligns columns of numbers on the right.
    caption: plain text.
  """

  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  caption: str


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page with a heading.

  Attributes:
    title: of the section.
    paragraphs: plain text; what stands in `backticks` is shown as code, and a paragraph that is
      nothing but code as a block.
    parts: below the paragraphs.
  """

  title: str
  paragraphs: Sequence[str] = ()
  parts: Sequence[Figure | Table] = ()


@dataclasses.dataclass(frozen=True)
class Page:
  """A page.

  Attributes:
    title: of the page.
    result: in a sentence or two, plain text.
    sections: in order.
  """

  title: str
  result: str
  sections: Sequence[Section]
