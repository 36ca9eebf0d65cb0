"""Classes are compared by their names: which are the same, and how others differ."""

import unicodedata

import pytest

from speedpaper_jax.data import imagenet_classes
from speedpaper_jax.data.class_names import difference, missing, positions, same

COMPOSED = ("café", "naïve")
DECOMPOSED = tuple(unicodedata.normalize("NFD", name) for name in COMPOSED)


def test_the_same_names_in_the_same_order_are_the_same():
  assert same(("a", "b"), ["a", "b"])
  assert difference(("a", "b"), ["a", "b"]) == ""


@pytest.mark.parametrize("other", [("b", "a"), ("a", "c"), ("a",), ("a", "b", "c"), ("A", "b")])
def test_anything_else_is_not(other):
  assert not same(("a", "b"), other)
  assert difference(("a", "b"), other)


def test_unicodes_two_forms_of_a_name_are_one_name():
  assert DECOMPOSED != COMPOSED
  assert same(DECOMPOSED, COMPOSED)
  assert positions(DECOMPOSED[::-1], COMPOSED) == (1, 0)


def test_imagenets_two_names_of_a_class_are_one_name():
  assert same(("n01440764", "goldfish"), ("tench", "n01443537"))
  assert positions(("n01443537",), imagenet_classes.class_names()) == (1,)


def test_letters_that_only_look_alike_are_other_names():
  assert not same(("a",), ("\N{CYRILLIC SMALL LETTER A}",))
  assert not same(("cat",), ("Cat",))


@pytest.mark.parametrize(
  ("names", "expected"),
  [
    (("a", "b", "c"), (0, 1, 2)),
    (("c", "a", "b"), (2, 0, 1)),
    (("c", "a"), (2, 0)),
    (("a", "d"), None),
    (("a", "a"), None),
    ((), ()),
  ],
)
def test_names_stand_where_they_are_found(names, expected):
  assert positions(names, ("a", "b", "c")) == expected


def test_a_name_of_two_classes_says_nothing():
  """ImageNet's usual lists have two cranes and two maillots."""
  assert positions(("tench", "crane"), ("crane", "tench", "crane")) is None
  assert positions(("crane", "tench", "crane"), ("crane", "tench", "crane")) == (0, 1, 2)
  assert positions(("tench", "n01440764"), ("tench", "goldfish")) is None


def test_what_is_missing_is_named_in_its_own_spelling():
  assert missing(("b", DECOMPOSED[0], "n01440764", "x"), (COMPOSED[0], "tench")) == ["b", "x"]


@pytest.mark.parametrize(
  ("before", "now", "expected"),
  [
    ("abc", "abd", "new 'd', gone 'c'"),
    ("abc", "ab", "gone 'c'"),
    ("ab", "abcdef", "new 'c', 'd', 'e' and 1 more"),
    ("abc", "acb", "another order: class 1 was 'b' and is 'c'"),
    ("ab", "aab", "2 classes before and 3 now, of which some have the same name"),
  ],
)
def test_differences_are_said_in_words(before, now, expected):
  assert difference(before, now) == expected
