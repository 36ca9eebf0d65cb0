"""A run remembers its data: what may change from session to session, what is refused and told."""

import dataclasses
import json

import pytest

from speedpaper_jax.distributed import hosts
from speedpaper_jax.errors import UserError
from speedpaper_jax.storage.run_data import Images, RunData
from speedpaper_jax.storage.run_directory import RunDirectory

TRAIN = Images("train", 90, "files of train")
TEST = Images("test", 10, "files of test")
DATA = RunData(("ant", "bee", "wasp"), {"train": TRAIN, "eval": TEST})


@pytest.fixture
def directory(tmp_path):
  """Of a run that was trained for 5 steps."""
  directory = RunDirectory(tmp_path)
  (tmp_path / "checkpoints" / "5").mkdir(parents=True)
  directory.write("model.json", {"class_names": list(DATA.class_names)})
  DATA.save(directory, 0)
  return directory


def with_classes(*names):
  return dataclasses.replace(DATA, class_names=names)


def with_images(purpose, **changes):
  images = {**DATA.images, purpose: dataclasses.replace(DATA.images[purpose], **changes)}
  return dataclasses.replace(DATA, images=images)


def content(directory):
  return {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}


class TestClasses:
  def test_the_same_go_on(self, directory, capsys):
    DATA.check(directory)
    assert capsys.readouterr().err == ""

  @pytest.mark.parametrize(
    ("names", "difference"),
    [
      (("ant", "bee", "hornet"), "new 'hornet', gone 'wasp'"),
      (("ant", "bee", "fly", "wasp"), "new 'fly'"),
      (("ant", "wasp"), "gone 'bee'"),
      (("bee", "ant", "wasp"), "another order: class 0 was 'ant' and is 'bee'"),
      (("Ant", "bee", "wasp"), "new 'Ant', gone 'ant'"),
    ],
  )
  @pytest.mark.parametrize("finished", [True, False])
  def test_others_are_refused_and_nothing_is_written(self, directory, names, difference, finished):
    if finished:
      (directory.checkpoints / "5").rmdir()
      directory.write("summary.json", {})
    before = content(directory)
    with pytest.raises(UserError) as refusal:
      with_classes(*names).check(directory)
    assert str(refusal.value) == (
      f"'{directory.path}' holds a run with other classes than the data have now: {difference}. "
      f"Choose another --workdir, with --config.init_from={directory.path} to start from its "
      "weights, or give the data their former classes back."
    )
    assert content(directory) == before

  def test_a_run_that_has_come_to_nothing_begins_anew(self, directory):
    (directory.checkpoints / "5").rmdir()
    with_classes("cat", "dog").check(directory)

  @pytest.mark.parametrize("known", [None, {}, {"class_names": []}, {"class_names": 3}])
  def test_an_old_run_that_does_not_know_them_goes_on(self, directory, known):
    (directory.path / "model.json").unlink()
    if known is not None:
      directory.write("model.json", known)
    with_classes("cat", "dog").check(directory)


class TestImages:
  @pytest.mark.parametrize(
    ("changed", "message"),
    [
      (
        with_images("train", examples=95, files="more"),
        "the training images are others than in the run's earlier sessions (90 before, 95 now); "
        "training goes on at the same position among them, which is that of other images.",
      ),
      (
        with_images("train", files="others"),
        "the training images are others than in the run's earlier sessions (90 before and now, but "
        "of other files); training goes on at the same position",
      ),
      (
        with_images("eval", examples=20, files="more"),
        "the images to evaluate on are others than in the run's earlier sessions (10 before, 20 "
        "now); evaluations before and after do not compare.",
      ),
    ],
  )
  def test_others_of_the_same_classes_are_told_of(self, directory, capsys, changed, message):
    changed.check(directory)
    assert f"warning: {message}" in capsys.readouterr().err

  def test_the_same_by_another_name_are_the_same(self, directory, capsys):
    with_images("eval", split="test[:100%]").check(directory)
    assert capsys.readouterr().err == ""

  @pytest.mark.parametrize("purpose", ["train", "eval"])
  def test_others_are_refused_where_runs_are_compared(self, directory, purpose):
    DATA.check_equal(directory)
    what = {"train": "training images", "eval": "images to evaluate on"}[purpose]
    with pytest.raises(
      UserError, match=rf"holds a run with other {what} \(.*; choose another --work"
    ):
      with_images(purpose, examples=7).check_equal(directory)

  def test_a_change_is_recorded_with_its_step(self, directory):
    changed = with_images("train", examples=95, files="more")
    changed.save(directory, 5)
    changed.save(directory, 7)
    found = directory.read("data.json")
    assert found["train"] == {"split": "train", "examples": 95, "files": "more"}
    assert found["changes"] == [{"until_step": 5, "train": dataclasses.asdict(TRAIN)}]
    DATA.save(directory, 9)
    assert [change["until_step"] for change in directory.read("data.json")["changes"]] == [5, 9]
    DATA.save(directory, 0)
    assert directory.read("data.json")["changes"] == []

  def test_an_old_run_that_does_not_know_them_learns_them(self, directory, capsys):
    (directory.path / "data.json").unlink()
    DATA.check(directory)
    assert capsys.readouterr().err == ""
    DATA.save(directory, 5)
    assert directory.read("data.json") == {
      "train": dataclasses.asdict(TRAIN),
      "eval": dataclasses.asdict(TEST),
      "changes": [],
    }

  @pytest.mark.parametrize(
    "damage",
    [
      "",
      "{",
      "[]",
      json.dumps({"train": 3}),
      json.dumps({"train": {"split": "train", "examples": "many", "files": ""}}),
      json.dumps({"train": {"split": "train", "examples": True, "files": ""}}),
      json.dumps({"train": {"split": "train", "examples": 3}}),
      json.dumps({"trains": dataclasses.asdict(TRAIN)}),
      json.dumps({"changes": {}}),
    ],
  )
  def test_a_damaged_record_is_told_of(self, directory, damage):
    (directory.path / "data.json").write_text(damage)
    with pytest.raises(
      UserError, match=r"data\.json is damaged .*; remove it, and the run goes on"
    ):
      DATA.check(directory)


class TestProcesses:
  @pytest.fixture
  def check(self, monkeypatch):
    """Compares the data as a process of several does; `DATA` is what the main one has."""

    def check(mine):
      monkeypatch.setattr(hosts, "from_main", lambda function: main)
      mine.check_processes()

    main = json.loads(json.dumps(dataclasses.asdict(DATA)))
    return check

  def test_the_same_data_are_trained_on(self, check):
    check(DATA)
    DATA.check_processes()

  @pytest.mark.parametrize(
    ("mine", "what"),
    [
      (
        with_classes("bee", "ant", "wasp"),
        "other classes, another order: class 0 was 'ant' and is",
      ),
      (with_classes("ant", "bee"), "other classes, gone 'wasp'"),
      (with_images("train", examples=80, files="f"), "80 training images, where that has 90"),
      (with_images("train", files="f"), "90 training images, where that has 90, but other files"),
      (with_images("eval", examples=9, files="f"), "9 images to evaluate on, where that has 10"),
    ],
  )
  def test_others_are_refused(self, check, mine, what):
    with pytest.raises(UserError, match=f"^Process 0 has other data than process 0: {what}"):
      check(mine)
