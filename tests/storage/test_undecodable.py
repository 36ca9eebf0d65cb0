"""undecodable.jsonl of a run."""

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.undecodable import UndecodableImage

IMAGES = [
  UndecodableImage("/images/ants/a \udcff.jpg", "it is no JPEG file", 3),
  UndecodableImage("record 7", "image file is truncated (12 bytes not processed)", 3),
  UndecodableImage("/images/蚂蚁/1.png", "it cannot be read (Input/output error)", 8),
]


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path)


def test_what_is_written_is_read(directory):
  undecodable.append(directory, IMAGES[:2])
  undecodable.append(directory, IMAGES[2:])
  assert undecodable.read(directory) == IMAGES


def test_a_run_without_such_images_has_none(directory):
  assert undecodable.read(directory) == []
  undecodable.forget_after(directory, 0)
  assert not (directory.path / undecodable.NAME).exists()


@pytest.mark.parametrize(("step", "kept"), [(2, 0), (3, 2), (7, 2), (8, 3)])
def test_those_of_steps_that_are_taken_again_are_forgotten(directory, step, kept):
  undecodable.append(directory, IMAGES)
  undecodable.forget_after(directory, step)
  assert undecodable.read(directory) == IMAGES[:kept]
  assert (directory.path / undecodable.NAME).exists() == (kept > 0)


@pytest.mark.parametrize(
  "line", ["{", "[]", '{"name": "a"}', '{"name": "a", "reason": "b", "step": -1}', "\udcff"]
)
def test_a_damaged_line_is_left_out_and_told(directory, line, capsys):
  undecodable.append(directory, IMAGES)
  path = directory.path / undecodable.NAME
  with path.open("ab") as file:
    file.write(line.encode(errors="surrogateescape") + b"\n")
  undecodable.append(directory, IMAGES[:1])
  assert undecodable.read(directory) == [*IMAGES, IMAGES[0]]
  (warning,) = capsys.readouterr().err.splitlines()
  assert warning.startswith(f"warning: a damaged line of {path} left out (line 4: ")


def test_a_file_that_cannot_be_read_is_an_error(directory):
  (directory.path / undecodable.NAME).mkdir()
  with pytest.raises(UserError, match=r"undecodable\.jsonl cannot be read \("):
    undecodable.read(directory)
