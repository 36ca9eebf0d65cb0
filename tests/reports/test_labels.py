"""Names that fit into figures."""

import pytest

from speedpaper_jax.reports import labels


@pytest.mark.parametrize(
  ("text", "most", "short"),
  [
    ("rose", 4, "rose"),
    ("roses", 4, "ros…"),
    ("玫瑰", 4, "玫瑰"),
    ("玫瑰花", 4, "玫…"),
    ("玫瑰花", 5, "玫瑰…"),
    ("", 4, ""),
  ],
)
def test_shortened(text, most, short):
  assert labels.shortened(text, most) == short
  assert labels.width(short) <= most


def test_wide_letters_have_two_columns():
  assert labels.width("a玫b") == 4
