"""Images by their names and by their directories."""

import os
import pathlib

import pytest

from speedpaper_jax.data.image_files import find_images, printable
from speedpaper_jax.errors import UserError


@pytest.fixture
def directory(tmp_path):
  (tmp_path / "roses").mkdir()
  for name in ("b.PNG", "a.jpg", "notes.txt", "roses/c.webp"):
    (tmp_path / name).touch()
  return tmp_path


def test_files_stay_as_they_are(directory):
  names = [directory / "notes.txt", directory / "missing.jpg", directory / "a.jpg"]
  assert find_images(names) == names


def test_a_directory_is_the_images_in_and_below_it(directory):
  found = find_images([directory / "missing.jpg", directory])
  assert found == [directory / name for name in ("missing.jpg", "a.jpg", "b.PNG", "roses/c.webp")]


def test_a_directory_without_images(tmp_path):
  (tmp_path / "notes.txt").touch()
  with pytest.raises(UserError, match=r"There are no images in '.*'; files that end in \.bmp,"):
    find_images([tmp_path])


@pytest.mark.parametrize(("name", "shown"), [(b"r\xc3\xb6se", "röse"), (b"r\xf6se", "r?se")])
def test_a_name_that_is_no_text_can_be_printed(name, shown):
  assert printable(pathlib.Path(os.fsdecode(name))) == shown
