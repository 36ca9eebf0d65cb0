"""Images by their names and by their directories."""

import os
import pathlib
import socket

import pytest

from speedpaper_jax.data.image_files import find_images
from speedpaper_jax.errors import UserError
from speedpaper_jax.files import regular_files


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


def told(capsys, directory):
  """What is left out of a directory, as one line of standard error says it."""
  (line,) = capsys.readouterr().err.splitlines()
  beginning = f"warning: left out of '{directory}': "
  assert line.startswith(beginning)
  return line.removeprefix(beginning)


class TestWhatIsLeftOutOfADirectoryIsCountedAndTold:
  def test_nothing(self, directory, capsys):
    (directory / "notes.txt").unlink()
    find_images([directory])
    assert not capsys.readouterr().err

  def test_other_endings(self, directory, capsys):
    for name in ("roses/0.tif", "roses/1.heic", "2.avif", "noending", "x.jpg.part", "x.jpg~"):
      (directory / name).touch()
    assert len(find_images([directory])) == 3
    assert told(capsys, directory) == (
      "7 with other endings ('2.avif', 'noending', 'notes.txt', 'roses/0.tif', 'roses/1.heic', …)."
    )

  @pytest.mark.parametrize(
    "name",
    [
      "._a.jpg",
      ".hidden.png",
      ".ipynb_checkpoints/a-checkpoint.jpg",
      "__MACOSX/a.jpg",
      "roses/@eaDir/c.jpg/SYNOPHOTO_THUMB.jpg",
      "lost+found/a.jpg",
      "$RECYCLE.BIN/a.jpg",
    ],
  )
  def test_hidden_files_and_folders(self, directory, capsys, name):
    (directory / "notes.txt").unlink()
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).touch()
    assert len(find_images([directory])) == 3
    assert told(capsys, directory).startswith("1 hidden ('")

  def test_a_hidden_directory_that_is_named_is_read(self, tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.jpg").touch()
    assert find_images([tmp_path / ".cache"]) == [tmp_path / ".cache" / "a.jpg"]

  def test_pipes_and_sockets_are_not_opened(self, directory, capsys, monkeypatch):
    (directory / "notes.txt").unlink()
    os.mkfifo(directory / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
      (directory / "roses").joinpath("device.png").symlink_to("/dev/null")
      monkeypatch.chdir(directory)  # the path of a socket has to be short
      listener.bind("socket.png")
    assert len(find_images([directory])) == 3
    assert told(capsys, directory) == (
      "3 as a pipe or device ('pipe.jpg', 'roses/device.png', 'socket.png')."
    )

  def test_links(self, directory, capsys):
    (directory / "notes.txt").unlink()
    (directory / "elsewhere.jpg").symlink_to("nowhere.jpg")
    (directory / "itself.jpg").symlink_to("itself.jpg")
    (directory / "roses" / "up").symlink_to("..")
    (directory / "same").symlink_to("roses")
    (directory / "again.jpg").symlink_to("a.jpg")
    found = [path.relative_to(directory).as_posix() for path in find_images([directory])]
    assert found == ["a.jpg", "again.jpg", "b.PNG", "roses/c.webp"]
    assert told(capsys, directory) == (
      "2 linked to in a circle ('roses/up', 'same'), "
      "2 linked to nowhere ('elsewhere.jpg', 'itself.jpg')."
    )

  def test_links_to_directories_are_followed(self, tmp_path):
    for name in ("store/a.jpg", "store/deep/b.jpg"):
      (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
      (tmp_path / name).touch()
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "link").symlink_to("../store")
    link = tmp_path / "shown" / "link"
    assert find_images([tmp_path / "shown"]) == [link / "a.jpg", link / "deep" / "b.jpg"]

  def test_a_folder_that_cannot_be_read(self, directory, capsys, monkeypatch):
    (directory / "notes.txt").unlink()
    forbid(monkeypatch, directory / "roses")
    assert len(find_images([directory])) == 2
    assert told(capsys, directory) == "1 that cannot be read ('roses')."

  def test_it_is_told_once(self, directory, capsys):
    find_images([directory])
    find_images([directory])
    assert told(capsys, directory) == "1 with other endings ('notes.txt')."

  def test_also_where_there_is_nothing_else(self, tmp_path):
    (tmp_path / "a.tif").touch()
    with pytest.raises(UserError, match=r"Left out: 1 with other endings \('a\.tif'\)\.$"):
      find_images([tmp_path])


def forbid(monkeypatch, directory):
  """Root, who may read everything, runs tests too."""
  scandir = os.scandir

  def scan(path):
    if pathlib.Path(path) == directory:
      raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", scan)


def test_a_directory_that_cannot_be_read_is_told(directory, monkeypatch):
  forbid(monkeypatch, directory)
  with pytest.raises(UserError, match=r"^The folder '.*' cannot be read: Permission denied\.$"):
    find_images([directory])


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a/" * 3000 + "b.jpg", "nul\0.jpg"])
def test_a_path_that_cannot_be_is_an_image_that_cannot_be_read(name):
  path = pathlib.Path(name)
  assert find_images([path]) == [path]
  with pytest.raises(OSError, match=r"too long|null"):
    regular_files.read(path)
