"""A folder of photographs as a data set: its classes, its splits, and training on it."""

import hashlib
import itertools
import os
import pathlib
import re
import unicodedata

import numpy as np
import pytest
import tiny
from PIL import Image

from speedpaper_jax.config.files import load
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import eval_batches, train_batches
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import registry
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

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


def forbid(monkeypatch, directory):
  """Root, who may read everything, runs tests too."""
  scandir = os.scandir

  def scan(path):
    if pathlib.Path(path) == directory:
      raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", scan)


@pytest.fixture(scope="module")
def insects(tmp_path_factory):
  path = tmp_path_factory.mktemp("insects")
  write_classes(path, PER_CLASS, CLASSES)
  return path


@pytest.fixture
def folder(tmp_path):
  return tmp_path / "folder"


def colours(folder, split, seed=0):
  """Of the images of a split, in its order."""
  records = open_split("folder", split, str(folder), seed).records
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

  def test_what_is_no_image_is_left_out(self, folder, capsys):
    write_classes(folder, 1, ("ants", "bees"))
    write_image(folder / "ants" / "upper case.JPG", 7)
    (folder / "ants" / "list.csv").touch()
    (folder / "notes").mkdir()
    (folder / "notes" / "read me.txt").touch()
    write_image(folder / "beside.png", 9)
    assert open_split("folder", "train+test", str(folder)).class_names == ("ants", "bees")
    assert sorted(colours(folder, "train+test")) == [0, 7, 50]
    assert capsys.readouterr().err.splitlines()[1] == (
      f"warning: left out of '{folder}': 1 beside the classes' folders ('beside.png'), "
      "2 with other endings ('ants/list.csv', 'notes/read me.txt'), 1 without images ('notes')."
    )

  def test_images_in_nested_folders_are_of_the_class_above(self, folder):
    write_classes(folder, 1, ("ants", "bees"))
    write_image(folder / "ants" / "2023" / "0.png", 8)
    write_image(folder / "ants" / "2023" / "spring" / "0.png", 9)
    assert open_split("folder", "train+test", str(folder)).class_names == ("ants", "bees")
    assert sorted(colours(folder, "train+test")) == [0, 8, 9, 50]

  @pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir"])
  def test_hidden_folders_are_none(self, folder, capsys, name):
    write_classes(folder, 1, ("ants", "bees", name))
    write_image(folder / "ants" / name / "x.png", 1)
    write_image(folder / "ants" / "._0.png", 1)
    assert open_split("folder", "train+test", str(folder)).class_names == ("ants", "bees")
    assert sorted(colours(folder, "train+test")) == [0, 50]
    assert f"3 hidden ('{name}', 'ants/._0.png', 'ants/{name}')." in capsys.readouterr().err

  def test_one_whose_images_have_other_endings_is_told_by_its_name(self, folder, capsys):
    write_classes(folder, 1)
    for name in ("scans/0.tif", "scans/1.TIFF", "phone/0.heic"):
      (folder / name).parent.mkdir(exist_ok=True)
      (folder / name).touch()
    (folder / "empty").mkdir()
    assert open_split("folder", "train", str(folder)).class_names == CLASSES
    assert "3 without images ('empty', 'phone', 'scans')." in capsys.readouterr().err

  def test_pipes_are_not_opened(self, folder, capsys):
    write_classes(folder, 1)
    os.mkfifo(folder / "ants" / "pipe.png")
    os.mkfifo(folder / "pipe")
    assert len(colours(folder, "train+test")) == 3
    assert "2 as a pipe or device ('ants/pipe.png', 'pipe')." in capsys.readouterr().err

  def test_their_names_are_in_one_unicode_form(self, folder):
    """Because a folder's form changes on its way from one system to another."""
    for name in ("rosé", "cafe"):
      write_image(folder / unicodedata.normalize("NFD", name) / "0.png", 1)
    write_image(folder / unicodedata.normalize("NFC", "rosé") / "1.png", 2)
    split = open_split("folder", "train+test", str(folder))
    assert (split.class_names, len(split)) == (("cafe", unicodedata.normalize("NFC", "rosé")), 3)

  @pytest.mark.parametrize(
    "name", [b"r\xf6se", b"\x1b[31mred", b"two\nlines", b"'\"; $(x)", b"%s{}"]
  )
  def test_names_may_be_anything(self, folder, name):
    write_classes(folder, 1, ("ants", "bees"))
    write_image(folder / os.fsdecode(name) / os.fsdecode(b"%b.png" % name), 7)
    (folder / os.fsdecode(b"%b.txt" % name)).touch()
    split = open_split("folder", "train+test", str(folder))
    assert len(split) == 3
    assert os.fsdecode(name) in split.class_names
    assert len(split.records.digest()) == 64


class TestHeldOut:
  """A tenth of each class, chosen by the digest of the files' names in it, and of a seed."""

  def held_out(self, folder, seed=0):
    """Of each class, the colours of the images that are held out."""
    split = open_split("folder", "test", str(folder), seed)
    records = [split.records[index] for index in range(len(split))]
    return [
      {int(record["image"][0, 0, 0]) for record in records if record["label"] == label}
      for label in range(split.num_classes)
    ]

  @pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
  def test_every_image_is_in_one_of_the_splits(self, insects, seed):
    train, test = colours(insects, "train", seed), colours(insects, "test", seed)
    assert sorted(train + test) == [
      50 * label + number for label in range(3) for number in range(PER_CLASS)
    ]

  @pytest.mark.parametrize(
    ("images", "held_out"),
    [(1, 0), (2, 1), (3, 1), (9, 1), (12, 1), (14, 1), (16, 2), (40, 4), (49, 5)],
  )
  def test_is_a_tenth_of_each_class_at_least_one_and_never_all(self, folder, images, held_out):
    write_classes(folder, images)
    write_classes(folder, 20, ("many",))  # so that there is a test split
    for seed in (0, 1, 2):
      assert [len(of_class) for of_class in self.held_out(folder, seed)] == [*[held_out] * 3, 2]

  @pytest.mark.parametrize(
    ("seed", "numbers"), [(0, [33, 6, 0, 8]), (1, [24, 22, 34, 2]), (2, [37, 34, 4, 19])]
  )
  def test_every_version_of_this_package_finds_the_same_ones_in_the_same_order(
    self, insects, seed, numbers
  ):
    expected = [50 * label + number for number in numbers for label in range(3)]
    assert colours(insects, "test", seed) == expected

  def test_each_seed_holds_out_others(self, insects):
    """Some of the same by chance: 4 of 40 images have 0.4 in common with 4 others on average."""
    by_seed = [self.held_out(insects, seed)[0] for seed in range(100)]
    assert len({frozenset(numbers) for numbers in by_seed}) == 100
    pairs = list(itertools.combinations(by_seed, 2))
    assert 0.35 < sum(len(one & other) for one, other in pairs) / len(pairs) < 0.45
    assert set().union(*by_seed) == {*range(PER_CLASS)}

  def test_validation_is_another_name_of_it(self, insects):
    for seed in (0, 1):
      assert colours(insects, "validation", seed) == colours(insects, "test", seed)

  def test_the_seed_goes_before_the_name(self, insects):
    """With a character between them that no name has."""
    digests = {
      number: hashlib.sha256(b"7\0" + f"{number}.png".encode()).digest()
      for number in range(PER_CLASS)
    }
    expected = set(sorted(digests, key=digests.get)[: PER_CLASS // 10])
    assert self.held_out(insects, 7) == [
      {50 * label + number for number in expected} for label in range(3)
    ]

  def test_without_a_seed_the_name_alone_decides(self, insects):
    numbers = sorted(
      range(PER_CLASS), key=lambda number: hashlib.sha256(f"{number}.png".encode()).digest()
    )
    expected = set(numbers[: PER_CLASS // 10])
    assert self.held_out(insects) == [
      {50 * label + number for number in expected} for label in range(3)
    ]

  def test_renaming_a_class_moves_no_image(self, insects, folder):
    write_classes(folder, PER_CLASS)
    (folder / "ants").rename(folder / "aunts")
    assert self.held_out(folder) == self.held_out(insects)

  @pytest.mark.parametrize("seed", range(5))
  def test_at_most_one_image_moves_when_one_comes_or_goes(self, folder, seed):
    write_classes(folder, 2, ("ants", "bees"))
    before = self.held_out(folder, seed)[0]
    for number in range(2, 40):
      write_image(folder / "ants" / f"{number}.png", number)
      after = self.held_out(folder, seed)[0]
      assert len((before ^ after) - {number}) <= 1
      assert len(before ^ after) <= 2
      before = after

  def test_nested_images_are_chosen_by_their_path_in_the_class(self, folder):
    for number in range(30):
      write_image(folder / "ants" / f"day {number}" / "0.png", number)
      write_image(folder / "bees" / f"{number}.png", 50 + number)
    assert [len(of_class) for of_class in self.held_out(folder)] == [3, 3]


class TestSplits:
  def test_it_does_not_depend_on_where_the_folder_is(self, insects, folder):
    write_classes(folder / "elsewhere", PER_CLASS)
    assert colours(folder / "elsewhere", "train") == colours(insects, "train")

  def test_it_does_not_depend_on_the_file_system_s_order(self, insects, folder, monkeypatch):
    write_classes(folder, PER_CLASS)
    scandir = os.scandir

    class Reversed(list):
      __enter__, __exit__ = lambda self: self, lambda self, *error: None

    monkeypatch.setattr(os, "scandir", lambda path: Reversed([*scandir(path)][::-1]))
    for split in ("train", "test"):
      assert colours(folder, split) == colours(insects, split)

  def test_the_order_is_always_the_same_and_mixes_the_classes(self, insects):
    found = colours(insects, "train")
    assert found == colours(insects, "train")
    assert found != sorted(found)

  @pytest.mark.parametrize("seed", [0, 1])
  @pytest.mark.parametrize("part", ["train[:20%]", "train[40%:60%]", "train[-20%:]", "train[:20]"])
  def test_a_part_has_all_classes(self, insects, part, seed):
    split = open_split("folder", part, str(insects), seed)
    assert {split.records[index]["label"] for index in range(len(split))} == {0, 1, 2}
    assert split.class_names == CLASSES

  def test_the_parts_of_a_split_make_it_up(self, insects):
    parts = colours(insects, "train[:50%]") + colours(insects, "train[50%:]")
    assert parts == colours(insects, "train")

  def test_train_and_test_may_be_classes_if_there_is_but_one_of_them(self, folder):
    write_classes(folder, 1, ("test", "plane"))
    assert open_split("folder", "train+test", str(folder)).class_names == ("plane", "test")


class TestFoldersOfSplits:
  """FOLDER/train beside any of FOLDER/val and FOLDER/test."""

  def test_images_have_the_classes_of_train(self, folder):
    write_classes(folder / "train", 30, ("ants", "bees"))
    write_image(folder / "test" / "bees" / "0.png", 200)
    write_image(folder / "test" / "bees" / "x.png", 201)
    assert len(colours(folder, "train")) == 60
    split = open_split("folder", "test", str(folder))
    assert split.class_names == ("ants", "bees")
    assert [split.records[index]["label"] for index in range(2)] == [1, 1]
    assert sorted(colours(folder, "test")) == [200, 201]

  @pytest.mark.parametrize("train", ["train", "training", "Train"])
  @pytest.mark.parametrize("validation", ["val", "valid", "validation", "VAL"])
  def test_val_is_evaluated_as_test_where_that_is_missing(self, folder, capsys, train, validation):
    write_classes(folder / train, 2)
    write_classes(folder / validation, 1)
    assert sorted(colours(folder, "train")) == [0, 1, 50, 51, 100, 101]
    assert sorted(colours(folder, "test")) == sorted(colours(folder, "validation")) == [0, 50, 100]
    assert capsys.readouterr().err == (
      f"'{folder}' has 3 classes and 9 images: 6 in {train}, 3 in {validation}, the split 'test' "
      f"being {validation}.\n"
    )

  @pytest.mark.parametrize("test", ["test", "Test"])
  def test_validation_is_test_where_that_is_missing(self, folder, capsys, test):
    write_classes(folder / "train", 2)
    write_classes(folder / test, 1)
    assert sorted(colours(folder, "validation")) == sorted(colours(folder, "test")) == [0, 50, 100]
    assert capsys.readouterr().err == (
      f"'{folder}' has 3 classes and 9 images: 6 in train, 3 in {test}, the split 'validation' "
      f"being {test}.\n"
    )

  def test_a_seed_moves_no_image_between_them_and_changes_their_parts(self, folder):
    write_classes(folder / "train", 40)
    write_classes(folder / "val", 3)
    for split in ("train", "validation", "test"):
      assert sorted(colours(folder, split, 1)) == sorted(colours(folder, split))
    parts = [colours(folder, part, 1) for part in ("train[:90%]", "train[90%:]")]
    assert parts[0] + parts[1] == colours(folder, "train", 1)
    assert set(parts[1]) != set(colours(folder, "train[90%:]"))

  def test_all_three(self, folder, capsys):
    for value, split in enumerate(("train", "val", "test")):
      for name in ("ants", "bees"):
        write_image(folder / split / name / "0.png", value)
    assert colours(folder, "train") == [0, 0]
    assert colours(folder, "validation") == [1, 1]
    assert colours(folder, "test") == [2, 2]
    assert capsys.readouterr().err == (
      f"'{folder}' has 2 classes and 6 images: 2 in train, 2 in val, 2 in test.\n"
    )

  @pytest.mark.parametrize("held_out", ["val", "test"])
  def test_no_image_comes_twice(self, folder, held_out):
    write_classes(folder / "train", 2)
    write_classes(folder / held_out, 1)
    for split in ("train+test+validation", "all"):
      assert sorted(colours(folder, split)) == [0, 0, 1, 50, 50, 51, 100, 100, 101]

  def test_what_lies_beside_them_is_told(self, folder, capsys):
    write_classes(folder / "train", 1)
    write_classes(folder / "test", 1)
    write_classes(folder / "unlabelled", 1)
    write_image(folder / "cover.png", 1)
    (folder / "classes.txt").touch()
    open_split("folder", "train", str(folder))
    assert capsys.readouterr().err.splitlines()[1] == (
      f"warning: left out of '{folder}': 2 beside the splits' folders ('cover.png', 'unlabelled'), "
      "1 with other endings ('classes.txt')."
    )

  @pytest.mark.parametrize("split", ["train", "test"])
  @pytest.mark.parametrize(
    ("other", "nearest"),
    [("Bees", "bees"), ("bee", "bees"), ("cicada", "cicadas"), ("ANTS", "ants")],
  )
  def test_a_class_that_train_lacks_is_refused(self, folder, split, other, nearest):
    write_classes(folder / "train", 1)
    write_classes(folder / "test", 1, (*CLASSES, other))
    message = (
      f"The class '{other}' of '{folder}/test' is none of the classes in '{folder}/train'; name "
      f"the folders of both alike. Did you mean '{nearest}'?"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
      open_split("folder", split, str(folder))

  def test_a_class_of_another_kind_is_refused(self, folder):
    write_classes(folder / "train", 1)
    write_classes(folder / "val", 1, ("zebras",))
    with pytest.raises(UserError, match=r"^The class 'zebras' of '.*/val' is none of"):
      open_split("folder", "train", str(folder))

  @pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
  def test_classes_of_another_unicode_form_are_the_same(self, folder, forms):
    for split, form in zip(("train", "test"), forms, strict=True):
      for value, name in enumerate(("rosé", "œillet", "ångström")):
        write_image(folder / split / unicodedata.normalize(form, name) / "0.png", value)
    split = open_split("folder", "test", str(folder))
    assert (split.num_classes, len(split)) == (3, 3)

  def test_a_class_without_test_images_is_told(self, folder, capsys):
    write_classes(folder / "train", 1)
    write_classes(folder / "test", 1, ("bees",))
    open_split("folder", "test", str(folder))
    assert capsys.readouterr().err.splitlines()[1:] == [
      f"warning: the split 'test' of '{folder}' has no images of 2 of the classes: 'ants', "
      "'cicadas'."
    ]

  @pytest.mark.parametrize(
    "names", [("train",), ("val", "test"), ("train", "plane"), ("validation", "plane")]
  )
  def test_a_split_is_never_taken_for_a_class(self, folder, names):
    for name in names:
      write_classes(folder / name, 1)
    with pytest.raises(UserError, match=r"looks like a split with folders of classes in it"):
      open_split("folder", "train", str(folder))

  def test_two_folders_for_one_split_are_refused(self, folder):
    for name in ("train", "val", "valid"):
      write_classes(folder / name, 1)
    with pytest.raises(UserError, match=r"two folders for one split, 'val' and 'valid'; remove"):
      open_split("folder", "train", str(folder))


class TestWhatIsToldAtTheStart:
  def test_counts(self, folder, capsys):
    write_classes(folder, 40)
    open_split("folder", "train[:50%]", str(folder))
    open_split("folder", "test", str(folder))
    assert capsys.readouterr().err == (
      f"'{folder}' has 3 classes and 120 images: 108 to train on, 12 held out as 'validation' and "
      "'test'.\n"
    )
    open_split("folder", "test", str(folder), 5)
    assert "12 held out by the seed 5 as 'validation' and 'test'.\n" in capsys.readouterr().err

  def test_a_class_of_one_image_has_none_held_out(self, folder, capsys):
    write_classes(folder, 4, ("ants", "bees"))
    write_classes(folder, 1, ("cicadas",))
    open_split("folder", "train", str(folder))
    assert capsys.readouterr().err.splitlines()[1:] == [
      f"warning: the split 'test' of '{folder}' has no images of 1 of the classes: 'cicadas'."
    ]


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

  def test_another_seed_has_another(self, insects):
    digests = {open_split("folder", "test", str(insects), seed).records.digest() for seed in (0, 1)}
    assert len(digests) == 2

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

  @pytest.mark.parametrize("split", ["vacation", "train[", "train[:x]", ""])
  def test_an_unknown_split(self, insects, split):
    self.expect(
      f"'{split}' is not a split of '{insects}', nor a part of one such as 'train[:90%]'.",
      *(split, insects),
    )

  def test_the_nearest_split_is_named(self, insects):
    valid = r"Valid: 'train', 'test', 'validation'\.$"
    with pytest.raises(UserError, match=rf"Did you mean 'train'\? {valid}"):
      open_split("folder", "trian", str(insects))

  def test_a_split_without_images(self, insects, folder):
    write_classes(folder / "train", 1)
    (folder / "test").mkdir()
    end = "has no images; choose another split."
    self.expect(f"The split 'test' of '{folder}' {end}", "test", folder)
    self.expect(f"The split 'validation' of '{folder}' {end}", "validation", folder)
    self.expect(f"The split 'train[:0]' of '{insects}' {end}", "train[:0]", insects)

  def test_too_few_classes_because_of_what_is_left_out(self, folder):
    write_classes(folder, 1, ("ants", ".bees"))
    with pytest.raises(UserError, match=r"Left out: 1 hidden \('\.bees'\)\.$"):
      open_split("folder", "train", str(folder))

  def test_a_class_that_cannot_be_read(self, folder, monkeypatch):
    write_classes(folder, 1)
    forbid(monkeypatch, folder / "bees")
    message = f"The folder '{folder}/bees' cannot be read: Permission denied."
    self.expect(message, "train", folder)

  @pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000])
  def test_a_name_that_is_too_long(self, folder, name):
    folder.mkdir()
    message = f"'{folder}/{name.rstrip('/')}' cannot be looked at: File name too long."
    self.expect(message, "train", folder / name)

  @pytest.mark.parametrize("name", ["nul\0", "link"])
  def test_a_name_that_cannot_be(self, folder, name):
    folder.mkdir()
    (folder / "link").symlink_to("link")
    self.expect(f"There is no folder '{folder}/{name}'; name one", "train", folder / name)

  def test_a_home_that_is_unknown(self):
    self.expect(
      "'~nobody_of_this_name/x' cannot be found, because there is no such home directory; name",
      *("train", "~nobody_of_this_name/x"),
    )


def cut_off(path):
  path.write_bytes(path.read_bytes()[:40])


def test_classes_are_counted_without_reading_an_image(folder):
  for label, (name, count) in enumerate({"ants": 3, "bees": 20, "cicadas": 1}.items()):
    for number in range(count):
      write_image(folder / name / f"{number}.png", 50 * label + number)
      (folder / name / f"{number}.png").write_bytes(b"no image")
  train, test = (open_split("folder", split, str(folder)) for split in ("train", "test"))
  assert train.class_counts() == [2, 18, 1]
  assert test.class_counts() == [1, 2, 0]


def test_an_image_is_called_by_its_path_in_a_table(folder):
  write_classes(folder, 2)
  records = open_split("folder", "train", str(folder)).records
  assert {records.short_name(number) for number in range(len(records))} <= {
    str(path) for path in folder.glob("*/*.png")
  }


def make_a_pipe(path):
  path.unlink()
  os.mkfifo(path)


@pytest.mark.parametrize(
  ("damage", "reason"),
  [
    (cut_off, ""),
    (lambda path: path.write_bytes(b""), "it is no "),
    (lambda path: path.unlink(), "it cannot be read (No such file or directory)"),
    (make_a_pipe, "it cannot be read (it is no regular file)"),
  ],
)
def test_a_damaged_image_becomes_a_row_of_weight_zero_told_once(folder, capsys, damage, reason):
  write_classes(folder, 4)
  split = open_split("folder", "train+test", str(folder))
  damage(folder / "bees" / "1.png")
  capsys.readouterr()
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
  name = f"the image '{folder / 'bees' / '1.png'}'"
  assert warning.startswith(f"warning: {name} cannot be decoded and is left out: {reason}")


@pytest.mark.parametrize("seed", [0, 3])
def test_training(insects, tmp_path, monkeypatch, seed):
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/bn_inception.py:data=folder")
  config.update_from_flattened_dict(tiny.SETTINGS)
  config.data.augmentation.shift = 0
  config.data.update(dir=str(insects), split_seed=seed)
  config.duration = "2 steps"
  directory = RunDirectory(tmp_path)
  summary = train.run(config, directory)
  assert summary["steps"] == 2
  assert summary["eval"]["count"] == len(colours(insects, "test"))
  description = directory.read("model.json")
  assert (description["num_classes"], description["class_names"]) == (3, [*CLASSES])
  data = directory.read("data.json")
  for purpose, split in (("train", "train"), ("eval", "test")):
    images = open_split("folder", split, str(insects), seed)
    assert data[purpose]["files"] == images.records.digest()
