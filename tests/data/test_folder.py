"""A folder of photographs as a data set: its classes, its splits, and training on it."""

import hashlib
import re

import numpy as np
import pytest
import tiny
from PIL import Image

from speedpaper_jax.config import load
from speedpaper_jax.data.augment import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import eval_batches, train_batches
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import train
from speedpaper_jax.models import registry
from speedpaper_jax.run_directory import RunDirectory

CLASSES = ("ants", "bees", "cicadas")
PER_CLASS = 40


def write_image(path, value):
  """Of one colour, by which it is known again."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)


def write_classes(folder, count, classes=CLASSES):
  """Images of class i have the colours from 50 · i on."""
  for label, name in enumerate(classes):
    for number in range(count):
      write_image(folder / name / f"{number}.png", 50 * label + number)


@pytest.fixture(scope="module")
def insects(tmp_path_factory):
  path = tmp_path_factory.mktemp("insects")
  write_classes(path, PER_CLASS, CLASSES)
  return path


@pytest.fixture
def folder(tmp_path):
  return tmp_path / "folder"


def colours(folder, split):
  """Of the images of a split, in its order."""
  records = open_split("folder", split, str(folder)).records
  return [int(records[index]["image"][0, 0, 0]) for index in range(len(records))]


class TestClasses:
  def test_are_the_folders_in_alphabetical_order(self, insects):
    split = open_split("folder", "train", str(insects))
    assert (split.num_classes, split.class_names) == (3, CLASSES)

  def test_images_have_the_labels_of_their_folders(self, insects):
    split = open_split("folder", "train+test", str(insects))
    assert len(split) == 3 * PER_CLASS
    for index in range(len(split)):
      record = split.records[index]
      assert record["image"].shape == (4, 4, 3)
      assert record["label"] == record["image"][0, 0, 0] // 50

  def test_what_is_no_image_is_left_out(self, folder):
    write_classes(folder, 1, ("ants", "bees"))
    write_image(folder / "ants" / "upper case.JPG", 7)
    write_image(folder / "ants" / "deeper" / "0.png", 8)
    (folder / "ants" / "list.csv").touch()
    (folder / "notes").mkdir()
    (folder / "notes" / "read me.txt").touch()
    write_image(folder / "beside.png", 9)
    assert open_split("folder", "train+test", str(folder)).class_names == ("ants", "bees")
    assert sorted(colours(folder, "train+test")) == [0, 7, 50]


class TestSplits:
  """A tenth of the images is held out, by the digest of their class's and their own name."""

  def test_every_image_is_in_one_of_them(self, insects):
    train, test = colours(insects, "train"), colours(insects, "test")
    assert sorted(train + test) == [
      50 * label + number for label in range(3) for number in range(PER_CLASS)
    ]
    assert 0.05 < len(test) / (3 * PER_CLASS) < 0.2

  def test_the_name_alone_decides(self, insects):
    """So that a later version of this package finds the same ones."""
    expected = {
      50 * label + number
      for label, name in enumerate(CLASSES)
      for number in range(PER_CLASS)
      if int(hashlib.sha256(f"{name}/{number}.png".encode()).hexdigest(), 16) % 10 == 0
    }
    assert set(colours(insects, "test")) == expected

  @pytest.mark.parametrize("count", [PER_CLASS // 2, PER_CLASS + 5])
  def test_an_image_stays_where_it_is_when_others_come_or_go(self, insects, folder, count):
    write_classes(folder, count)
    common = {50 * label + number for label in range(3) for number in range(min(count, PER_CLASS))}
    for split in ("train", "test"):
      assert set(colours(folder, split)) & common == set(colours(insects, split)) & common

  def test_it_does_not_depend_on_where_the_folder_is(self, insects, folder):
    write_classes(folder / "elsewhere", PER_CLASS)
    assert colours(folder / "elsewhere", "train") == colours(insects, "train")

  def test_the_order_is_always_the_same_and_mixes_the_classes(self, insects):
    found = colours(insects, "train")
    assert found == colours(insects, "train")
    assert found != sorted(found)

  @pytest.mark.parametrize("part", ["train[:20%]", "train[40%:60%]", "train[-20%:]", "train[:20]"])
  def test_a_part_has_all_classes(self, insects, part):
    split = open_split("folder", part, str(insects))
    assert {split.records[index]["label"] for index in range(len(split))} == {0, 1, 2}
    assert split.class_names == CLASSES

  def test_the_parts_of_a_split_make_it_up(self, insects):
    parts = colours(insects, "train[:50%]") + colours(insects, "train[50%:]")
    assert parts == colours(insects, "train")

  def test_a_folder_can_be_divided_by_hand(self, folder):
    write_classes(folder / "train", 30, ("ants", "bees"))
    write_image(folder / "test" / "bees" / "0.png", 200)
    write_image(folder / "test" / "bees" / "x.png", 201)
    assert len(colours(folder, "train")) == 60
    split = open_split("folder", "test", str(folder))
    assert split.class_names == ("ants", "bees")
    assert [split.records[index]["label"] for index in range(2)] == [1, 1]
    assert sorted(colours(folder, "test")) == [200, 201]

  def test_train_and_test_may_be_classes_if_there_is_but_one_of_them(self, folder):
    write_classes(folder, 1, ("test", "plane"))
    assert open_split("folder", "train+test", str(folder)).class_names == ("plane", "test")


class TestDigest:
  """What a run remembers of its data: the classes' and the files' names, and the files' sizes."""

  def digest(self, folder, split="train+test"):
    return open_split("folder", split, str(folder)).records.digest()

  def test_is_the_same_wherever_the_folder_is(self, insects, folder):
    write_classes(folder, PER_CLASS)
    assert self.digest(folder) == self.digest(insects)

  def test_is_the_same_in_whatever_order_the_images_come(self, insects):
    assert self.digest(insects, "test+train") == self.digest(insects)

  def test_other_images_have_another(self, insects):
    splits = ("train", "test", "train+test", "train[:50%]", "train[50%:]")
    assert len({self.digest(insects, split) for split in splits}) == len(splits)

  @pytest.mark.parametrize(
    "change",
    [
      lambda folder: (folder / "ants").rename(folder / "aunts"),
      lambda folder: (folder / "ants" / "0.png").rename(folder / "ants" / "00.png"),
      lambda folder: (folder / "ants" / "0.png").rename(folder / "bees" / "x.png"),
      lambda folder: (folder / "ants" / "0.png").write_bytes(b"other"),
      lambda folder: (folder / "ants" / "0.png").unlink(),
    ],
  )
  def test_any_change_of_the_files_changes_it(self, folder, change):
    write_classes(folder, 3)
    before = self.digest(folder)
    change(folder)
    assert self.digest(folder) != before


class TestMistakes:
  def expect(self, message, split, data_dir):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as raised:
      open_split("folder", split, str(data_dir))
    assert "\n" not in str(raised.value)

  def test_no_folder_is_named(self):
    self.expect(
      "The data set 'folder' is a folder of yours; name it with --config.data.dir=FOLDER.",
      *("train", ""),
    )

  def test_there_is_no_such_folder(self, folder):
    message = f"There is no folder '{folder}'; name one that has a folder of images for each class"
    self.expect(message, "train", folder)
    folder.touch()  # a file
    self.expect(message, "train", folder)

  @pytest.mark.parametrize(("classes", "count"), [((), 0), (("ants",), 1)])
  def test_too_few_classes(self, folder, classes, count):
    folder.mkdir()
    write_classes(folder, 3, classes)
    (folder / "empty").mkdir()
    self.expect(
      f"'{folder}' has {count} folders with images in them; it needs one for each class, two at",
      *("train", folder),
    )

  @pytest.mark.parametrize("split", ["validation", "train[", "train[:x]", ""])
  def test_an_unknown_split(self, insects, split):
    self.expect(
      f"'{split}' is not a split of '{insects}', nor a part of one such as 'train[:90%]'.",
      *(split, insects),
    )

  def test_the_nearest_split_is_named(self, insects):
    with pytest.raises(UserError, match=r"Did you mean 'train'\? Valid: 'train', 'test'\.$"):
      open_split("folder", "trian", str(insects))

  def test_a_split_without_images(self, insects, folder):
    write_classes(folder / "train", 1)
    (folder / "test").mkdir()
    end = "has no images; choose another split."
    self.expect(f"The split 'test' of '{folder}' {end}", "test", folder)
    self.expect(f"The split 'train[:0]' of '{insects}' {end}", "train[:0]", insects)

  def test_an_image_that_is_gone(self, folder):
    write_classes(folder, 2)
    split = open_split("folder", "train+test", str(folder))
    for path in folder.rglob("*.png"):
      path.unlink()
    with pytest.raises(UserError, match=r"^The image .*\.png cannot be read: No such file or dir"):
      split.records[0]


def test_a_damaged_image_becomes_a_row_of_weight_zero_told_once(folder, capsys):
  write_classes(folder, 4)
  damaged = folder / "bees" / "1.png"
  damaged.write_bytes(damaged.read_bytes()[:40])
  split = open_split("folder", "train+test", str(folder))
  (batch,) = eval_batches(split, crop=EvaluationCrop(4), batch_size=12)
  assert batch["mask"].sum() == 11
  (row,) = np.flatnonzero(batch["mask"] == 0)
  assert not batch["image"][row].any()
  assert sorted(batch["image"][batch["mask"] == 1][:, 0, 0, 0]) == [
    *(0, 1, 2, 3),
    *(50, 52, 53),
    *(100, 101, 102, 103),
  ]
  batches = train_batches(split, image_size=4, batch_size=12, seed=0, augmentation=Augmentation())
  assert next(batches)["mask"].sum() == 11
  batches.close()
  (warning,) = capsys.readouterr().err.splitlines()
  assert warning.startswith(f"warning: record {row} cannot be decoded and is left out: ")


def test_training(insects, tmp_path, monkeypatch):
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/bn_inception.py:data=folder")
  config.update_from_flattened_dict(tiny.SETTINGS)
  config.data.augmentation.shift = 0
  config.data.dir = str(insects)
  config.duration = "2 steps"
  directory = RunDirectory(tmp_path)
  summary = train.run(config, directory)
  assert summary["steps"] == 2
  assert summary["eval"]["count"] == len(colours(insects, "test"))
  description = directory.read("model.json")
  assert (description["num_classes"], description["class_names"]) == (3, [*CLASSES])
