"""What a report says of training images that could not be decoded."""

import past_runs
import pytest

from speedpaper_jax.reports import train, undecodable
from speedpaper_jax.storage import undecodable as undecodable_file
from speedpaper_jax.storage.undecodable import UndecodableImage


def images(count):
  return [UndecodableImage(f"/images/{n}.jpg", "it is no JPEG", 1000 * n) for n in range(count)]


@pytest.fixture
def directory(tmp_path):
  return past_runs.write(tmp_path / "run")


def test_nothing_of_a_run_that_had_none(directory):
  directory.append_metrics({"step": 7, "split": "train", "left_out": 0, "undecodable_images": 0})
  assert undecodable.in_words(directory, directory.metrics()) == []
  assert undecodable.table(directory) == []


@pytest.mark.parametrize(
  ("count", "left_out", "sentence"),
  [
    (1, [1], "1 training image cannot be decoded: once a mini-batch went without, "),
    (2, [3, 1200], "2 training images cannot be decoded: 1,203 times a mini-batch went without, "),
  ],
)
def test_how_many_in_a_sentence(directory, count, left_out, sentence):
  undecodable_file.append(directory, images(count))
  for step, rows in enumerate(left_out, 7):
    directory.append_metrics({"step": step, "split": "train", "left_out": rows})
  (found,) = undecodable.in_words(directory, directory.metrics())
  assert found == f"{sentence}in its gradient and its batch statistics, too."


def test_which_and_why_in_the_report(directory):
  undecodable_file.append(directory, images(3))
  table = train.present(directory).sections[-1].parts[-1]
  assert table.columns == ("image", "reason", "first step")
  assert table.rows[2] == ("/images/2.jpg", "it is no JPEG", "2,000")
  assert len(table.rows) == 3


def test_of_many_the_first(directory):
  undecodable_file.append(directory, images(21))
  (table,) = undecodable.table(directory)
  assert [row[0] for row in table.rows] == [f"/images/{number}.jpg" for number in range(20)]
  assert table.caption.endswith(" The first 20 of 21; undecodable.jsonl has all of them.")


def test_a_damaged_line_is_told_and_the_others_are_shown(directory, capsys):
  undecodable_file.append(directory, images(2))
  with (directory.path / undecodable_file.NAME).open("a") as file:
    file.write("{")
  assert len(train.present(directory).sections[-1].parts[-1].rows) == 2
  assert "a damaged line of" in capsys.readouterr().err
