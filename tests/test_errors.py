"""Messages for mistakes."""

import pytest

from speedpaper_jax.errors import did_you_mean, warn


@pytest.mark.parametrize(
  ("name", "valid", "expected"),
  [
    ("mnits", ["digits", "mnist"], " Did you mean 'mnist'? Valid: 'digits', 'mnist'."),
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
