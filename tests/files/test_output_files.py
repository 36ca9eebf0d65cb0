"""Files that the user names for a command to write."""

import json
import os
import pathlib
import re
import stat
import threading

import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.files import output_files
from speedpaper_jax.storage import run_directory


def test_json(tmp_path):
  output_files.check(tmp_path / "x.json")
  output_files.write_json(tmp_path / "x.json", {"a": [1, None]})
  assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, None]}


def test_json_has_no_word_for_a_number_that_is_not_finite(tmp_path):
  with pytest.raises(ValueError, match="not JSON compliant"):
    output_files.write_json(tmp_path / "x.json", {"a": float("nan")})
  assert list(tmp_path.iterdir()) == []


def test_text_is_utf_8_and_what_is_no_text_is_marked(tmp_path):
  output_files.write(tmp_path / "x.html", "猫" + os.fsdecode(b"\xf6"))
  assert (tmp_path / "x.html").read_bytes() == "猫?".encode()


class TestChecks:
  @pytest.mark.parametrize(
    ("name", "message"),
    [
      (".", "is a directory; name a file in it"),
      ("missing/x.json", "x.json cannot be written: there is no directory '.*missing'"),
      ("file/x.json", "x.json cannot be written: there is no directory '.*file'"),
      ("x" * 300, "cannot be written: File name too long"),
      ("x/" * 3000, "cannot be written: File name too long"),
      ("round", "cannot be written: Too many levels of symbolic links"),
      ("to_directory", "is a directory; name a file in it"),
      ("to_nowhere", "cannot be written: there is no directory"),
    ],
  )
  def test_what_can_surely_not_be_written(self, tmp_path, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "to_directory").symlink_to(tmp_path)
    (tmp_path / "to_nowhere").symlink_to("missing/x.json")
    with pytest.raises(UserError, match=message):
      output_files.check(tmp_path / name)

  @pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
  def test_what_the_system_does_not_say(self, monkeypatch, tmp_path, error):
    def fail(path):
      raise error

    monkeypatch.setattr(pathlib.Path, "stat", fail)
    with pytest.raises(UserError, match=f"x.json cannot be written: {error.strerror}"):
      output_files.check(tmp_path / "x.json")

  def test_an_existing_file_is_replaced(self, tmp_path):
    (tmp_path / "x.json").write_text("old")
    output_files.check_all({"--json": tmp_path / "x.json", "--plot": None})

  @pytest.mark.parametrize("other", ["x", "./x", "link"])
  def test_two_outputs_are_two_files(self, tmp_path, other):
    (tmp_path / "link").symlink_to("x")
    outputs = {"--json": tmp_path / "x", "--plot": tmp_path / other}
    with pytest.raises(UserError, match=r"--json and --plot both name '.*'; name two files"):
      output_files.check_all(outputs)

  @pytest.mark.parametrize("name", ["photo.png", "../{}/photo.png", "link", "hard_link"])
  def test_an_input_is_not_written_over(self, tmp_path, name):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photograph")
    (tmp_path / "link").symlink_to(photo)
    (tmp_path / "hard_link").hardlink_to(photo)
    output = tmp_path / name.format(tmp_path.name)
    with pytest.raises(UserError, match="' is to be read; name another file to write"):
      output_files.check_all({"--plot": output}, inputs=[tmp_path / "missing.png", photo])

  @pytest.mark.parametrize(
    "name", ["model.json", "summary.json", "checkpoints/3/x", "plots/curves.png", "link.json"]
  )
  def test_a_run_is_not_written_over(self, tmp_path, name):
    run = tmp_path / "run"
    for directory in ("checkpoints/3", "plots"):
      (run / directory).mkdir(parents=True)
    for file in ("config.json", "model.json"):
      (run / file).touch()
    (run / "link.json").symlink_to("model.json")
    with pytest.raises(UserError, match=r"' is a file of a run; name another one"):
      output_files.check(run / name)
    output_files.check(run / "answers.json")

  def test_whatever_a_run_leaves_behind_is_known(self, tmp_path):
    left_behind = re.findall(r"^(\S+)  ", str(run_directory.__doc__), re.MULTILINE)
    assert {"config.json", "sessions.json", "checkpoints/", "plots/*.png"} <= set(left_behind)
    for path in ("config.json", "model.json", "checkpoints/x", "tensorboard/x", "plots/x"):
      (tmp_path / path).parent.mkdir(exist_ok=True)
      (tmp_path / path).touch()
    for name in left_behind:
      with pytest.raises(UserError, match=r"' is a file of a run"):
        output_files.check(tmp_path / (f"{name}x" if name.endswith("/") else name))

  def test_other_directories_may_have_a_config_json(self, tmp_path):
    (tmp_path / "config.json").touch()
    output_files.check(tmp_path / "config.json")


class TestWriting:
  def test_what_cannot_be_written_after_all(self, tmp_path):
    with pytest.raises(UserError, match=r"x.json cannot be written: No such file or directory\."):
      output_files.write_json(tmp_path / "missing" / "x.json", {})

  def test_where_there_is_no_room_the_old_file_stays(self, monkeypatch, tmp_path):
    def write_a_part(path, content):
      with path.open("wb") as file:
        file.write(content[:3])
      raise OSError(28, "No space left on device")

    (tmp_path / "x.json").write_text("old")
    monkeypatch.setattr(pathlib.Path, "write_bytes", write_a_part)
    with pytest.raises(UserError, match=r"x.json cannot be written: No space left on device\."):
      output_files.write_json(tmp_path / "x.json", {"a": 1})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.json": "old"}

  def test_links_and_permissions_stay(self, tmp_path):
    (tmp_path / "x.json").touch(mode=0o600)
    (tmp_path / "link.json").symlink_to("x.json")
    output_files.write(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "x.json").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o600


class TestPipesAndDevices:
  def test_a_pipe_with_a_reader(self, tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    opened = os.open(pipe, os.O_WRONLY)  # waits for the reader
    output_files.check(pipe)
    output_files.write(pipe, "a" * 100_000)
    os.close(opened)
    reader.join()
    assert received == ["a" * 100_000]
    assert pipe.is_fifo()

  def test_a_pipe_without_a_reader_does_not_hang(self, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe cannot be written: No such device or address"):
      output_files.write(tmp_path / "pipe", "a")

  def test_a_device_stays_one(self):
    device = pathlib.Path("/dev/null")
    output_files.check(device)
    output_files.write(device, "a")
    assert device.is_char_device()

  def test_a_full_device(self):
    with pytest.raises(UserError, match="/dev/full cannot be written: No space left on device"):
      output_files.write(pathlib.Path("/dev/full"), "a")
