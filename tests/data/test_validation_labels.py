"""Right labels and lists of images to leave out, matched to records by the names of their files."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from packages import require
from PIL import Image

from speedpaper_jax.data import imagenet_classes, relabel, validation_labels
from speedpaper_jax.data.sources import Split, open_split
from speedpaper_jax.data.store import DataSet, store
from speedpaper_jax.data.validation_labels import (
  IMAGES,
  excluded_of,
  file_name,
  names_of,
  read_excluded,
  read_right_labels,
  right_labels_of,
)
from speedpaper_jax.errors import UserError

NAMES = tuple(imagenet_classes.class_names())


def made_up_labels():
  """Of each image by its place in the file; a tenth has none."""
  generator = np.random.default_rng(0)
  counts = generator.choice([0, 1, 2, 3], IMAGES, p=[0.1, 0.7, 0.15, 0.05])
  return [sorted(set(generator.integers(0, 1000, count).tolist())) for count in counts]


@pytest.fixture(scope="module")
def labels():
  return made_up_labels()


@pytest.fixture
def path(tmp_path):
  return tmp_path / "file"


class Named(list):
  """Records that are known by the names of their files."""

  def file_name(self, index):
    return self[index]


def split_of(file_names, class_names=NAMES):
  return Split(Named(file_names), len(class_names), class_names)


class TestReadRightLabels:
  def test_each_image_has_those_of_its_place(self, path, labels):
    path.write_text(json.dumps(labels))
    found = read_right_labels(path)
    assert len(found) == IMAGES
    assert list(found)[:2] == ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]
    assert list(found.values()) == [tuple(each) for each in labels]

  def test_a_class_twice_is_one(self, path, labels):
    path.write_text(json.dumps([[7, 3, 7], *labels[1:]]))
    assert read_right_labels(path)[file_name(1)] == (7, 3)

  @pytest.mark.parametrize(
    ("content", "message"),
    [
      ("", "is damaged, no JSON ("),
      ("[[1], [2", "is damaged, no JSON ("),
      ("{}", "has no list of images; name real.json of google-research/reassessed-imagenet"),
      (json.dumps([[1]] * 49_999), "has 49,999 entries, not the 50,000"),
      (json.dumps([[1]] * 49_999 + [3]), "has for ILSVRC2012_val_00050000.JPEG 3, not a list of"),
      (
        json.dumps([[999], [0, 1000]] + [[]] * 49_998),
        "has for ILSVRC2012_val_00000002.JPEG the class 1000, which is none from 0 to 999; fetch",
      ),
      (json.dumps([[-1]] * IMAGES), "has for ILSVRC2012_val_00000001.JPEG the class -1, which"),
      (json.dumps([[True]] * IMAGES), "has for ILSVRC2012_val_00000001.JPEG the class True, which"),
      (json.dumps([[1.0]] * IMAGES), "has for ILSVRC2012_val_00000001.JPEG the class 1.0, which"),
    ],
    ids=range(9),
  )
  def test_what_is_wrong_is_said(self, path, content, message):
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(f"'{path}' {message}")) as raised:
      read_right_labels(path)
    assert "\n" not in str(raised.value)

  def test_no_file_and_no_readable_one(self, path):
    with pytest.raises(UserError, match=r"^There is no file '.*'; give the path of real\.json of "):
      read_right_labels(path)
    path.mkdir()
    with pytest.raises(UserError, match=r"' cannot be read: it is no regular file\.$"):
      read_right_labels(path)

  def test_the_published_file(self):
    """timm has a copy of it."""
    require("timm")
    info = pathlib.Path(importlib.util.find_spec("timm").origin).parent / "data" / "_info"
    labels = read_right_labels(info / "imagenet_real_labels.json")
    assert sum(bool(classes) for classes in labels.values()) == 46_837  # of which results are


class TestReadExcluded:
  @pytest.mark.parametrize(
    "content",
    [
      "36\n50000\n1\n",
      "36\r\n50000\r\n\r\n1",
      "\ufeff  36\n50000 \n00000001\n1\n",
      "ILSVRC2012_val_00000036.JPEG\nval/ILSVRC2012_val_00050000.jpeg\nILSVRC2012_val_00000001\n",
    ],
  )
  def test_numbers_and_names(self, path, content):
    path.write_text(content, encoding="utf-8", newline="")
    assert read_excluded(path) == {file_name(36), file_name(50_000), file_name(1)}

  def test_a_list_of_the_length_of_the_challenges(self, path):
    numbers = np.random.default_rng(0).choice(IMAGES, 1762, replace=False) + 1
    path.write_text("".join(f"{number}\n" for number in numbers))
    assert read_excluded(path) == {f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers}

  @pytest.mark.parametrize(
    "line",
    [
      *("0", "50001", "-1", "1.5", "١", "n01440764", "ILSVRC2012_val_00050001.JPEG", "1,2"),
      *("ILSVRC2012_test_00000001.JPEG", "ILSVRC2012_val_1.JPEG", "9" * 5000),
    ],
  )
  def test_a_line_that_is_no_image(self, path, line):
    path.write_text(f"7\n\n{line}\n", encoding="utf-8")
    message = rf"' has '{re.escape(line[:60])}' in line 3, which is none of ImageNet's validation "
    with pytest.raises(UserError, match=message):
      read_excluded(path)

  @pytest.mark.parametrize(
    ("content", "message"), [(b"", "' lists no images; name"), (b"\xff\xfe1", "' is no text; it")]
  )
  def test_no_list(self, path, content, message):
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
      read_excluded(path)

  def test_no_file(self, path):
    with pytest.raises(
      UserError, match=r"^There is no file '.*'; give the path of the list of ima"
    ):
      read_excluded(path)


class TestNames:
  def test_whatever_their_order_folders_and_endings(self):
    split = split_of(
      ["ILSVRC2012_val_00000007.JPEG", "dog.jpg", None, "ILSVRC2012_val_00000003.png"]
    )
    assert names_of(split) == [file_name(7), None, None, file_name(3)]

  @pytest.mark.parametrize(
    ("names", "first"),
    [
      (["n02096051_Airedale.JPEG", None], "the first is called 'n02096051_Airedale.JPEG'"),
      ([None, None], "nothing says how they are called"),
    ],
  )
  def test_where_there_is_none_it_is_said(self, names, first):
    message = (
      f"None of the 2 images is one of ImageNet's validation images by its name: {first}, not as "
      "'ILSVRC2012_val_00000001.JPEG'; evaluate on"
    )
    with pytest.raises(UserError, match=re.escape(message)):
      names_of(split_of(names))

  def test_of_a_prepared_data_set(self, tmp_path):
    """TFDS shuffles them."""
    data_set = DataSet(
      name="imagenet_like",
      version="1.0.0",
      image_shape=(None, None, 3),
      num_classes=1000,
      description="Images.",
      homepage="https://example.org",
      citation="",
      more_features={"file_name": tfds.features.Text()},
    )
    numbers = np.random.default_rng(0).choice(IMAGES, 20, replace=False) + 1
    examples = [
      {
        "image": np.full((4, 4, 3), place, np.uint8),
        "label": place,
        "file_name": f"ILSVRC2012_val_{number:08d}.JPEG",
      }
      for place, number in enumerate(numbers)
    ]
    store(data_set, tmp_path, {"validation": examples}, {"label": list(NAMES)})
    split = open_split("imagenet_like", "validation", str(tmp_path))
    places = [split.records[number]["label"] for number in range(20)]
    assert places != list(range(20)), "as positions they would be others"
    assert names_of(split) == [file_name(numbers[place]) for place in places]
    reversed_classes, _ = relabel.by_name(split, NAMES[::-1])
    assert names_of(reversed_classes) == names_of(split)

  def test_of_a_data_set_without_names(self, scratch):
    split = open_split("digits", "test[:5]", str(scratch / "data"))
    with pytest.raises(UserError, match="nothing says how they are called"):
      names_of(split)

  def test_of_a_folder(self, tmp_path):
    paths = [
      tmp_path / "tench" / "ILSVRC2012_val_00000293.JPEG",
      tmp_path / "goldfish" / "ILSVRC2012_val_00000236.JPEG",
      tmp_path / "goldfish" / "mine.jpg",
      *(tmp_path / kind / "train.jpg" for kind in ("goldfish", "tench")),
    ]
    for path in paths:
      folder = "train" if path.name == "train.jpg" else "val"
      path = tmp_path / folder / path.relative_to(tmp_path)
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.new("RGB", (4, 4)).save(path)
    split = open_split("folder", "validation", str(tmp_path))
    by_path = {split.records.file_name(n): name for n, name in enumerate(names_of(split))}
    assert by_path == {
      "ILSVRC2012_val_00000293.JPEG": file_name(293),
      "ILSVRC2012_val_00000236.JPEG": file_name(236),
      "mine.jpg": None,
    }


class TestRightLabels:
  def test_are_those_of_the_names(self, labels):
    """Against NumPy: accuracy of random predictions, over the images that have a right class."""
    generator = np.random.default_rng(1)
    order = generator.permutation(IMAGES)[:3000]
    names = [file_name(number + 1) for number in order]
    by_name = {file_name(number): tuple(each) for number, each in enumerate(labels, 1)}
    found = right_labels_of(split_of(names), names, by_name)
    assert found.told == ""
    is_right = np.zeros((IMAGES, 1000), bool)
    for number, each in enumerate(labels):
      is_right[number, each] = True
    predicted = np.where(generator.random(3000) < 0.5, is_right[order].argmax(1), 0)
    counts = is_right[order].any(1)
    expected = is_right[order, predicted][counts].mean()
    kept = [
      label in right for label, right in zip(predicted, found.of_records, strict=True) if right
    ]
    assert np.mean(kept) == pytest.approx(expected)
    assert len(kept) == counts.sum() < 3000

  def test_of_classes_in_another_order_with_others_between_them(self):
    names = [file_name(5)]
    classes = ("background", *NAMES[::-1])
    found = right_labels_of(split_of(names, classes), names, {names[0]: (0, 999)})
    assert found.of_records == [(1000, 1)]

  def test_of_some_of_the_classes(self):
    """As of a folder of ten of them: no other class can be predicted."""
    names = [file_name(1), file_name(2)]
    classes = (NAMES[217], NAMES[0])
    found = right_labels_of(
      split_of(names, classes), names, {names[0]: (0, 5, 217), names[1]: (5,)}
    )
    assert found.of_records == [(1, 0), ()]

  def test_records_that_match_nothing_are_told(self):
    names = [file_name(1), None, None]
    found = right_labels_of(split_of(names), names, {names[0]: (1,)})
    assert found == (
      [(1,), None, None],
      "2 of the 3 images have no name of one of ImageNet's validation images: no right labels are "
      "known of them.",
    )

  def test_other_classes_are_an_error(self):
    names = [file_name(1)]
    with pytest.raises(
      UserError, match=r"The classes of the data are not ImageNet's, .*: 'ants'\."
    ):
      right_labels_of(split_of(names, ("ants", NAMES[0])), names, {names[0]: (1,)})


class TestExcluded:
  def test_are_those_of_the_names(self):
    generator = np.random.default_rng(2)
    order = generator.permutation(IMAGES)
    numbers = generator.choice(IMAGES, 1762, replace=False)
    found = excluded_of([file_name(n + 1) for n in order], {file_name(n + 1) for n in numbers})
    np.testing.assert_array_equal(found.mask, np.isin(order, numbers))
    assert found.told == ""

  def test_what_does_not_match_is_told(self):
    names = [file_name(1), None, file_name(3)]
    found = excluded_of(names, {file_name(3), file_name(4), file_name(5)})
    assert found.mask.tolist() == [False, False, True]
    assert found.told == (
      "2 of the 3 images to leave out are not in the split; 1 of the 3 images have no name of one "
      "of ImageNet's validation images: none of them is left out."
    )

  def test_where_none_matches_it_is_an_error(self):
    with pytest.raises(
      UserError, match="None of the 2 images to leave out is among the 1 of the sp"
    ):
      excluded_of([file_name(1)], {file_name(2), file_name(3)})


def test_names_begin_at_one():
  assert validation_labels.file_name(1) == "ILSVRC2012_val_00000001.JPEG"
  assert validation_labels.file_name(IMAGES) == "ILSVRC2012_val_00050000.JPEG"
