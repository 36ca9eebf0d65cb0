"""Text that others chose, such as a file's or a class's name, as a terminal may show it."""

import re

# What terminals obey instead of showing: control characters, marks that turn the direction of
# writing, ends of line and paragraph. The other invisible characters belong to scripts and emoji.
_CONTROL = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_LAYOUT = "\t\n\r"
_OF_A_LINE = re.compile(f"[{_CONTROL}]")
_OF_LINES = re.compile(f"(?![{_LAYOUT}])[{_CONTROL}]")


def printable(text: object) -> str:
  r"""One line of text: control characters are escaped, as `\x1b`; what is no valid text is "?"."""
  return _OF_A_LINE.sub(_escaped, _valid(str(text)))


def printable_lines(text: str) -> str:
  """The same, but line breaks, returns and tabs stay."""
  return _OF_LINES.sub(_escaped, _valid(text))


def _valid(text: str) -> str:
  """Names of files need not be valid UTF-8; Python has surrogates in the place of such bytes."""
  return text.encode("utf-8", errors="replace").decode("utf-8")


def _escaped(found: re.Match[str]) -> str:
  return found[0].encode("unicode_escape").decode("ascii")
