"""Results that are kept, so that an evaluation is not done again."""

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.inference.finished import Finished

METRICS = {"top1": 0.75, "top5": 1.0, "count": 4}
WHAT = {"version": "1", "data": "imagenet2012"}


def test_what_is_written_is_read(tmp_path):
  finished = Finished(tmp_path / "new" / "directory")
  assert finished.read("a/b c", WHAT) is None
  finished.write("a/b c", WHAT, METRICS)
  assert finished.read("a/b c", WHAT) == METRICS
  assert Finished(tmp_path / "new" / "directory").read("a/b c", WHAT) == METRICS


def test_another_evaluation_stands_beside_it(tmp_path):
  finished = Finished(tmp_path)
  finished.write("a", WHAT, METRICS)
  other = {**WHAT, "version": "2"}
  assert finished.read("a", other) is None
  finished.write("a", other, {**METRICS, "top1": 0.5})
  assert finished.read("a", WHAT) == METRICS
  assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", ["", "{}", '{"depends_on": {}, "metrics": {}}', "[1]"])
def test_a_damaged_file_counts_as_none_and_is_told(tmp_path, capsys, content):
  finished = Finished(tmp_path)
  finished.write("a", WHAT, METRICS)
  path = finished.path("a", WHAT)
  path.write_text(content)
  assert finished.read("a", WHAT) is None
  assert f"{path} is damaged" in capsys.readouterr().err


def test_metrics_that_are_none(tmp_path, capsys):
  finished = Finished(tmp_path)
  finished.write("a", WHAT, {**METRICS, "top1": 75.0})
  assert finished.read("a", WHAT) is None
  assert "that evaluation is done again" in capsys.readouterr().err


def test_a_file_in_its_place(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be made"):
    Finished(tmp_path / "file")
