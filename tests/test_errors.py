"""Messages for mistakes."""

import pytest

from speedpaper_jax import errors
from speedpaper_jax.errors import did_you_mean, speak_as, tell_once, warn, warn_once


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
    monkeypatch.setattr(errors, "_told", set())
    monkeypatch.setattr(errors, "_speaker", "")
    monkeypatch.setattr(errors, "_is_main", True)

  def test_is_not_told_again(self, capsys):
    for _ in range(3):
      tell_once("5 classes.")
      warn_once("a file is left out.")
    tell_once("6 classes.")
    assert capsys.readouterr().err.splitlines() == [
      *("5 classes.", "warning: a file is left out.", "6 classes.")
    ]

  def test_is_told_by_the_main_process_alone(self, capsys):
    for process in (1, 0, 2):
      speak_as(process)
      tell_once("5 classes.")
    assert capsys.readouterr().err == "process 0: 5 classes.\n"
