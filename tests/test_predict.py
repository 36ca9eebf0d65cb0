"""`python -m speedpaper_jax.predict DIR IMAGE…`, with a network of random weights."""

import json
import os
import re

import numpy as np
import pytest
import tiny
from commands import finish, start
from PIL import Image

from speedpaper_jax import predict
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import registry

NAMES = ("n01440764", "rose", "tulip")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("models") / "tiny"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "create", tiny.create)
    tiny.write_model_directory(path, NAMES, Preprocessing(EvaluationCrop(8), DEFAULT))
  return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Twenty noisy pictures in one directory."""
  path = tmp_path_factory.mktemp("images")
  for index in range(20):
    pixels = np.random.default_rng(index).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path / f"{index:02}.png")
  return path


@pytest.fixture
def run_predict(monkeypatch, capsys):
  """Runs the command in this process; returns what it printed."""
  monkeypatch.setattr(registry, "create", tiny.create)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # leaves JAX's settings as they are

  def run_predict(*arguments):
    predict.main(predict.parse(["predict", *map(str, arguments)]))
    return capsys.readouterr()

  return run_predict


def test_a_table_of_all_classes_of_an_image(directory, images, run_predict):
  first, *rows = run_predict(directory, images / "00.png").out.splitlines()
  assert first == str(images / "00.png")
  ranks, percentages, _, names = zip(*(row.split() for row in rows), strict=True)
  assert ranks == ("1", "2", "3")
  assert sum(map(float, percentages)) == pytest.approx(100, abs=0.02)
  assert sorted(names) == ["rose", "tench", "tulip"]


def test_a_directory_means_its_images_and_any_batch_size_says_the_same(
  directory, images, run_predict
):
  by_eight = run_predict(directory, images, "--batch_size=8", "--top=2").out
  assert by_eight == run_predict(directory, images, "--top=2").out
  assert len(by_eight.splitlines()) == 20 * (1 + 2)


def test_flags_stand_anywhere(directory, images, run_predict):
  two = [images / "00.png", images / "01.png"]
  expected = run_predict("--top=2", directory, *two).out
  assert run_predict(directory, two[0], "--top", "2", two[1]).out == expected
  assert len(expected.splitlines()) == 2 * (1 + 2)


def test_without_images_it_takes_those_of_the_package(directory, run_predict):
  printed = run_predict(directory, "--top=1")
  named = [line.rpartition("/")[2] for line in printed.out.splitlines()[::2]]
  assert named == ["cat.jpg", "coffee.jpg", "rocket.jpg"]
  assert printed.err.startswith("Note: no image is named; these photographs come with the package")


def test_the_time_is_told_beside_the_table(directory, images, run_predict):
  last = run_predict(directory, images).err.splitlines()[-1]
  assert re.fullmatch(r"\d+\.\d ms an image, of the network alone and compiled, on 8 × cpu\.", last)


def test_json(directory, images, run_predict, tmp_path):
  table = run_predict(directory, images / "03.png", f"--json={tmp_path}/x.json").out.splitlines()
  ((path, candidates),) = json.loads((tmp_path / "x.json").read_text()).items()
  assert path == table[0]
  assert table[1:] == [
    f"{rank:4}  {100 * each['probability']:6.2f} %  {each['name']}"
    for rank, each in enumerate(candidates, 1)
  ]
  assert {each["class"]: each["name"] for each in candidates} == {0: "tench", 1: "rose", 2: "tulip"}


def test_a_plot_of_the_first_images(directory, images, run_predict, tmp_path):
  errors = run_predict(directory, images, f"--plot={tmp_path}/x.png").err
  assert f"warning: {tmp_path}/x.png shows the first 16 of 20 images." in errors
  with Image.open(tmp_path / "x.png") as figure:
    assert figure.height == 16 * 288


def test_a_file_that_cannot_be_read_leaves_the_others(
  directory, images, run_predict, tmp_path, capsys
):
  (tmp_path / "text.jpg").write_text("no image")
  paths = [images / "00.png", tmp_path / "text.jpg", images / "01.png"]
  with pytest.raises(UserError, match=r"^1 of 3 images are left out\.$"):
    run_predict(directory, *paths, f"--json={tmp_path}/x.json")
  printed = capsys.readouterr()
  assert f"warning: '{tmp_path}/text.jpg' cannot be decoded and is left out" in printed.err
  assert len(printed.out.splitlines()) == 2 * (1 + 3)
  assert list(json.loads((tmp_path / "x.json").read_text())) == [str(paths[0]), str(paths[2])]


def test_what_is_left_out_of_a_directory_is_told(directory, images, run_predict, tmp_path):
  for name in ("0.png", "deeper/1.png", "._0.png", ".ipynb_checkpoints/0.png"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes((images / "00.png").read_bytes())
  (tmp_path / "scan.tif").touch()
  os.mkfifo(tmp_path / "pipe.png")
  printed = run_predict(directory, tmp_path)
  assert [line for line in printed.out.splitlines() if line.startswith("/")] == [
    *(f"{tmp_path}/0.png", f"{tmp_path}/deeper/1.png")
  ]
  assert (
    f"warning: left out of '{tmp_path}': 1 as a pipe or device ('pipe.png'), "
    "2 hidden ('._0.png', '.ipynb_checkpoints'), 1 with other endings ('scan.tif')."
  ) in printed.err.splitlines()


class TestMistakes:
  def test_nothing_named(self, run_predict):
    with pytest.raises(UserError, match="Name a model directory and images, or published weights"):
      run_predict()

  def test_weights_that_nobody_has_published(self, run_predict):
    with pytest.raises(UserError, match=r"no published weights 'timm/inception_v5'\. Did you mean"):
      run_predict("--weights=timm/inception_v5")

  def test_a_file_of_an_unknown_network(self, images, run_predict):
    with pytest.raises(UserError, match=r"Name the network that '.*00.png' is of, as in --model="):
      run_predict(f"--weights={images}/00.png")
    with pytest.raises(UserError, match="--dialect belongs to --model"):
      run_predict(f"--weights={images}/00.png", "--dialect=timm")

  @pytest.mark.parametrize("named", [["run"], ["--weights=timm/inception_v4"]])
  def test_a_network_that_is_named_where_it_says_nothing(self, images, run_predict, named):
    with pytest.raises(UserError, match=r"--model is of weights in a file, and '.*' is none; name"):
      run_predict(*named, images / "00.png", "--model=inception_v4")

  def test_not_a_model_directory(self, images, run_predict):
    with pytest.raises(UserError, match=r"is not the directory of a run: it has no config.json"):
      run_predict(images, images / "00.png")

  @pytest.mark.parametrize(
    ("flag", "message"),
    [
      ("--top=0", "argument --top: 0 is below 1"),
      ("--batch_size=0", "argument --batch_size: 0 is below 1"),
      ("--top=many", "argument --top: invalid number value: 'many'"),
      ("--tpo=1", r"There is no flag '--tpo'\. Did you mean '--top'\?"),
    ],
  )
  def test_bad_flags(self, directory, images, run_predict, flag, message):
    with pytest.raises(UserError, match=message):
      run_predict(directory, images, flag)

  @pytest.mark.parametrize("flag", ["--json=missing/x", "--plot=missing/x.png", "--plot=x.pgn"])
  def test_files_that_cannot_be_written_are_told_at_once(
    self, directory, images, run_predict, capsys, flag
  ):
    with pytest.raises(UserError, match=r"cannot be written: there is no directory|is no name of"):
      run_predict(directory, images, flag)
    assert capsys.readouterr().out == ""

  @pytest.mark.parametrize(
    ("flags", "message"),
    [
      (["--plot={images}/00.png"], "00.png' is to be read; name another file"),
      (["--json={images}/00.png"], "00.png' is to be read; name another file"),
      (["--json={model}/model.json"], "model.json' is a file of a run; name another one"),
      (["--json={model}/checkpoints/x"], "x' is a file of a run; name another one"),
      (["--json=x.png", "--plot=x.png"], "--json and --plot both name 'x.png'"),
    ],
  )
  def test_files_that_would_be_lost(self, directory, images, run_predict, flags, message):
    named = [flag.format(images=images, model=directory) for flag in flags]
    with pytest.raises(UserError, match=message):
      run_predict(directory, images / "00.png", *named)

  def test_as_a_command(self, scratch, tmp_path):
    process = start(scratch, "-m", "speedpaper_jax.predict", tmp_path, "x.png")
    status, output, errors = finish(process)
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: '{tmp_path}' is not the directory of a run")
