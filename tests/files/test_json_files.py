"""JSON is read strictly."""

import json
import math

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import json_files


@pytest.fixture
def path(tmp_path):
  return tmp_path / "summary.json"


class TestReading:
  def test_sections(self, path):
    path.write_text('{"a": {"b": [1, {"c": null}]}}')
    assert json_files.read(path) == {"a": {"b": [1, {"c": None}]}}

  @pytest.mark.parametrize("text", ['{"a": {"b": 1}}', '{"a": {"b": {}}}'])
  def test_a_key_that_is_missing_is_named(self, path, text):
    path.write_text(text)
    content = json_files.read(path)
    with pytest.raises(UserError, match=r"summary\.json is damaged, .*: it has no 'a\.c'\."):
      content["a"]["c"]
    with pytest.raises(UserError, match=r"it has no 'd'\."):
      content["d"]
    assert content.get("d") is None

  def test_a_byte_order_mark(self, path):
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert json_files.read(path) == {"a": 1}

  def test_numbers_that_are_not_finite(self, path):
    path.write_text('{"a": NaN, "b": -Infinity}')
    content = json_files.read(path)
    assert math.isnan(content["a"])
    assert content["b"] == -math.inf

  @pytest.mark.parametrize(
    ("text", "message"),
    [
      (b"", "Expecting value"),
      (b"[]", "it holds no JSON object"),
      (b"3", "it holds no JSON object"),
      (b'{"a": 1', "Expecting"),
      (b'{"a": 1} 2', "Extra data"),
      (b'{"a": 1, "a": 2}', "'a' stands there twice"),
      (b'{"a": {"b": 1, "c": 2, "b": 1}}', "'b' stands there twice"),
      (b'{"a": ' + 60 * b"[" + 60 * b"]" + b"}", "nested too deeply"),
      (b'{"a": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", "nested too deeply"),
      (60 * b'{"a": ' + b"1" + 60 * b"}", "nested too deeply"),
      (b'{"a": ' + 5000 * b"9" + b"}", "integer string conversion"),
      (b'{"a": "\xff"}', "codec can't decode"),
      ('{"a": 1}'.encode("utf-16"), "codec can't decode"),
      (b'{"a": "\x00"}', "Invalid control character"),
      (100 * b"\0", "Expecting value"),
    ],
  )
  def test_what_is_none(self, path, text, message):
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message):
      json_files.read(path)

  def test_a_directory_in_its_place(self, path):
    path.mkdir()
    with pytest.raises(OSError, match="it is no regular file"):
      json_files.read(path)


def test_numbers_that_are_not_finite_are_written_as_null():
  content = {"a": math.nan, "b": [math.inf, (1.5, -math.inf)], "c": {"d": math.nan}, "e": "x"}
  assert json.loads(json_files.dumps(content)) == {
    "a": None,
    "b": [None, [1.5, None]],
    "c": {"d": None},
    "e": "x",
  }
