"""Files that the user names for a command to write."""

import json

import pytest

from speedpaper_jax import output_files
from speedpaper_jax.errors import UserError


def test_json(tmp_path):
  output_files.check(tmp_path / "x.json")
  output_files.write_json(tmp_path / "x.json", {"a": [1, None]})
  assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, None]}


@pytest.mark.parametrize(
  ("name", "message"),
  [
    (".", "is a directory; name a file in it"),
    ("missing/x.json", "x.json cannot be written: there is no directory '.*missing'"),
    ("file/x.json", "x.json cannot be written: there is no directory '.*file'"),
  ],
)
def test_what_can_surely_not_be_written(tmp_path, name, message):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match=message):
    output_files.check(tmp_path / name)


def test_what_cannot_be_written_after_all(tmp_path):
  with pytest.raises(UserError, match=r"x.json cannot be written: No such file or directory\."):
    output_files.write_json(tmp_path / "missing" / "x.json", {})
