"""benchmarks/input.py in a small form."""

import json
import sys

import numpy as np
import pytest
from packages import require
from PIL import Image

from benchmarks import images
from benchmarks import input as input_benchmark
from benchmarks.input import BEFORE_A_DEVICE, OURS, Task
from speedpaper_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
  """Three JPEGs, and an image that is none."""
  folder = tmp_path / "images"
  folder.mkdir()
  for number in range(3):
    pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.jpg")
  Image.fromarray(pixels).save(folder / "other.png")
  return folder


def run(*arguments):
  input_benchmark.main(input_benchmark.parse(["input", *map(str, arguments)]))


def without(monkeypatch, *packages):
  """As if the interpreter had none of these."""
  monkeypatch.setattr(
    input_benchmark, "OTHERS", dict(zip(input_benchmark.OTHERS, packages, strict=True))
  )


@pytest.mark.slow
def test_all_that_are_there_take_turns(folder, tmp_path, capsys, monkeypatch):
  require("torchvision")
  without(monkeypatch, "torchvision", "no_such_package")
  out = tmp_path / "out.json"
  run(f"--images={folder}", "--image_sizes=16", "--batches=1", "--turns=2", f"--json={out}")
  printed = capsys.readouterr().out
  assert f"no_such_package is not installed for {sys.executable}, so that tf.data is" in printed
  assert "3 JPEGs; images/s on one core, median of 2 turns (lowest–highest)" in printed
  assert printed.count("× torchvision's") == 4
  assert "Cores of a host for 3,000 images/s:\n  16 pixels, training, area crop: " in printed
  content = json.loads(out.read_text())
  expected = {"crop": {OURS}, "distort": {OURS, BEFORE_A_DEVICE}, "evaluate": {OURS}}
  assert [entry["transform"] for entry in content] == list(expected)
  for entry in content:
    assert entry["image_size"] == 16
    assert entry["images_per_second"].keys() == expected[entry["transform"]] | {"torchvision"}
    assert all(len(turns) == 2 and min(turns) > 0 for turns in entry["images_per_second"].values())


def test_ratios_are_taken_turn_by_turn():
  rates = {Task("crop", 224): {OURS: [200.0, 300.0, 10.0], "tf.data": [100.0, 300.0, 20.0]}}
  assert input_benchmark.table(rates).splitlines() == [
    "  224 pixels, training, area crop",
    "    ours                     200 (10–300), 1.00 × tf.data's",
    "    tf.data                  100 (20–300)",
  ]


def test_what_is_no_jpeg_is_left_out(folder, tmp_path, capsys):
  written = tmp_path / "written"
  written.mkdir()
  assert input_benchmark.write_jpegs(folder, 2, written) == 2
  assert not capsys.readouterr().out
  assert input_benchmark.write_jpegs(folder, 10, written) == 3
  assert capsys.readouterr().out == "1 images are no JPEGs and are left out.\n"
  first = (folder / "0.jpg").read_bytes()
  assert min(written.iterdir()).read_bytes() == first
  for path in folder.glob("*.jpg"):
    path.unlink()
  with pytest.raises(UserError, match="has no JPEG"):
    input_benchmark.write_jpegs(folder, 10, written)


def test_an_interpreter_that_is_not_there_is_told(monkeypatch):
  with pytest.raises(UserError, match="'no/python' cannot be run"):
    input_benchmark.is_there("tf.data", "no/python")


def test_a_worker_that_ends_is_told(tmp_path):
  with (
    pytest.raises(UserError, match=r"The process of nobody has ended; its error stands above\."),
    input_benchmark.running("nobody", sys.executable, str(tmp_path)) as contestant,
  ):
    contestant.rate(Task("crop", 8), 1)


def test_what_is_damaged_or_not_there_is_told(folder, tmp_path, capsys):
  (folder / "0.jpg").write_bytes(b"\xff\xd8")
  assert len(list(images.encoded_images(folder))) == 3
  errors = capsys.readouterr().err
  assert errors.startswith(f"warning: '{folder / '0.jpg'}' cannot be decoded and is left out: ")
  with pytest.raises(UserError, match="There is no folder"):
    list(images.encoded_images(tmp_path / "nothing"))
  (tmp_path / "dataset_info.json").write_text("{")
  with pytest.raises(UserError, match="is damaged"):
    list(images.encoded_images(tmp_path))
