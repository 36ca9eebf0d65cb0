"""Names that fit into figures."""

import unicodedata


def width(text: str) -> int:
  """In columns of a letter's width; wide letters, as Chinese ones, have two."""
  return sum(map(_width, text))


def shortened(text: str, most: int) -> str:
  """The text, or its beginning and an ellipsis, in columns of a letter's width."""
  if width(text) <= most:
    return text
  kept, left = "", most - 1
  for letter in text:
    left -= _width(letter)
    if left < 0:
      break
    kept += letter
  return f"{kept}…"


def _width(letter: str) -> int:
  return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
