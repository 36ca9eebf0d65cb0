"""Images by their names and by their directories."""

import pytest

from speedpaper_jax.data.image_files import find_images
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
