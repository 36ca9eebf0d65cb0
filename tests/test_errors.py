"""Messages for mistakes, and text that others chose on a terminal."""

import os

import pytest

from speedpaper_jax import errors
from speedpaper_jax.errors import (
  did_you_mean,
  inform_once,
  printable,
  printable_lines,
  set_process,
  warn,
  warn_once,
)


@pytest.mark.parametrize(
  ("name", "valid", "expected"),
  [
    ("mnits", ["digits", "mnist"], " Did you mean 'mnist'? Valid: 'digits', 'mnist'."),
    ("MNIST", ["digits", "mnist"], " Did you mean 'mnist'? Valid: 'digits', 'mnist'."),
    ("rose", ["Rose", "Lily"], " Did you mean 'Rose'? Valid: 'Rose', 'Lily'."),
    ("qqqqq", ["digits", "mnist"], " Valid: 'digits', 'mnist'."),
    ("name_7", [f"name_{i}" for i in range(50)], " Did you mean 'name_7'?"),
    ("qqqqq", [f"name_{i}" for i in range(50)], ""),
  ],
)
def test_did_you_mean(name, valid, expected):
  assert did_you_mean(name, valid) == expected


def test_warnings_go_to_standard_error(capsys):
  warn("it is late.")
  assert capsys.readouterr() == ("", "warning: it is late.\n")


class TestWhatIsToldOnce:
  @pytest.fixture(autouse=True)
  def nothing_was_told(self, monkeypatch):
    monkeypatch.setattr(errors, "_printed_once", set())
    monkeypatch.setattr(errors, "_speaker", "")
    monkeypatch.setattr(errors, "_is_main", True)

  def test_is_not_told_again(self, capsys):
    for _ in range(3):
      inform_once("5 classes.")
      warn_once("a file is left out.")
    inform_once("6 classes.")
    assert capsys.readouterr().err.splitlines() == [
      *("5 classes.", "warning: a file is left out.", "6 classes.")
    ]

  def test_is_told_by_the_main_process_alone(self, capsys):
    for process in (1, 0, 2):
      set_process(process)
      inform_once("5 classes.")
    assert capsys.readouterr().err == "process 0: 5 classes.\n"


@pytest.mark.parametrize(
  ("text", "shown"),
  [
    ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    ("\x9b2Jcleared", r"\x9b2Jcleared"),  # ESC [ in one character
    ("\x7f\x08\x00", r"\x7f\x08\x00"),
    ("cat\u202egpj.exe", r"cat\u202egpj.exe"),
    ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
    ("one\u2028two\u2029three\x85four", r"one\u2028two\u2029three\x85four"),
  ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
  assert printable(text) == shown
  assert printable_lines(text) == shown


@pytest.mark.parametrize(
  "text", ["röse", "猫 ×γ²…", "кошка", "👩\u200d🔬", "می\u200cخواهم", r"a\x1b"]
)
def test_everything_else_stays(text):
  assert printable(text) == text


def test_a_name_stays_on_its_line():
  assert printable("a\nerror: b\r\tc") == r"a\nerror: b\r\tc"
  assert printable_lines("a\nb\r\tc\x1b") == "a\nb\r\tc\\x1b"


@pytest.mark.parametrize(("name", "shown"), [(b"r\xc3\xb6se", "röse"), (b"r\xf6se", "r?se")])
def test_a_name_that_is_no_text_can_be_printed(name, shown):
  assert printable(os.fsdecode(name)) == shown


def test_errors_and_warnings_hold_no_control_characters(capsys):
  errors.warn("'\x1b[2J\n.jpg' cannot be read.")
  assert capsys.readouterr().err == "warning: '\\x1b[2J\\n.jpg' cannot be read.\n"
