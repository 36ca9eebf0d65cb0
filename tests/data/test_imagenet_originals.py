"""ImageNet's official archives and what people unpack them into: splits, labels and mistakes."""

import contextlib
import gzip
import json
import re

import made_up_imagenet
import pytest
from made_up_imagenet import CLASSES, VALIDATION

from speedpaper_jax.data import imagenet_originals
from speedpaper_jax.data.image_archives import Tar
from speedpaper_jax.data.original_files import OriginalFiles
from speedpaper_jax.errors import UserError

TRAIN, VALIDATED = made_up_imagenet.small()
LABELS = dict(zip(VALIDATED, VALIDATION, strict=False))


@pytest.fixture
def read(tmp_path):
  """Reads the originals of a directory; the files are open as long as the test runs."""
  with contextlib.ExitStack() as stack:

    def read(name, directory=tmp_path):
      files = OriginalFiles(directory, tmp_path / "unpacked" / "x.tar", stack)
      return imagenet_originals.read(name, files), files.left_out

    yield read


def examples(split, *features):
  """What a split has, in its order, by the names of the files."""
  of_names = {}
  for index, name in enumerate(split.images.names):
    values = [split.integers[feature][index] for feature in features]
    of_names[name] = (split.images.read(index), *values)
  return of_names


def expect_error(message, read, name="imagenet2012"):
  with pytest.raises(UserError, match=re.escape(message)) as raised:
    read(name)
  assert "\n" not in str(raised.value)


def labelled(train=TRAIN):
  return {
    file: (data, CLASSES.index(name))
    for name, files in train.items()
    for file, data in files.items()
  }


class TestImageNet:
  def test_official_archives(self, tmp_path, read):
    made_up_imagenet.write(tmp_path, TRAIN, VALIDATED)
    contents, left_out = read("imagenet2012")
    train, validation = contents.splits
    assert (train.name, validation.name) == ("train", "validation")
    assert examples(train, "label") == labelled()
    assert examples(validation, "label") == {
      name: (data, CLASSES.index(LABELS[name])) for name, data in VALIDATED.items()
    }
    assert not left_out

  @pytest.mark.parametrize("sorted_into_classes", [False, True])
  def test_folders_are_the_same(self, tmp_path, read, sorted_into_classes):
    some = {name: TRAIN[name] for name in CLASSES[:20]}
    made_up_imagenet.write(tmp_path / "tars", some, VALIDATED)
    made_up_imagenet.write_folders(
      tmp_path / "folders", some, VALIDATED, sorted_into_classes=sorted_into_classes
    )
    of_tars = read("imagenet2012", tmp_path / "tars")[0].splits
    of_folders = read("imagenet2012", tmp_path / "folders")[0].splits
    for split, other in zip(of_tars, of_folders, strict=True):
      assert examples(split, "label") == examples(other, "label")

  def test_an_archive_goes_before_a_folder(self, tmp_path, read):
    made_up_imagenet.write_folders(tmp_path, {}, VALIDATED, sorted_into_classes=False)
    made_up_imagenet.write(tmp_path, None, dict(list(VALIDATED.items())[:2]))
    contents, _ = read("imagenet2012")
    assert contents.found == [
      f"validation: 2 images of 2 classes in {tmp_path}/ILSVRC2012_img_val.tar"
    ]

  def test_the_images_of_the_test_split_have_no_labels(self, tmp_path, read):
    content = made_up_imagenet.tar({f"test/ILSVRC2012_test_{n:08}.JPEG": b"x" for n in (1, 2)})
    (tmp_path / "ILSVRC2012_img_test.tar").write_bytes(content)
    (split,) = read("imagenet2012")[0].splits
    assert examples(split, "label") == {
      f"test/ILSVRC2012_test_{n:08}.JPEG": (b"x", -1) for n in (1, 2)
    }

  def test_what_is_lacking_is_listed(self, tmp_path, read):
    few = {name: images for name, images in TRAIN.items() if name not in CLASSES[10:15]}
    made_up_imagenet.write(tmp_path, few, None)
    tar = tmp_path / "ILSVRC2012_img_train.tar"
    assert read("imagenet2012")[0].lacking == [
      f"{tar} has 995 images, not 1,281,167",
      f"{tar} lacks 5 of the 1,000 classes ({', '.join(CLASSES[10:13])}, …)",
      f"'{tmp_path}' has neither ILSVRC2012_img_val.tar nor the folder val",
    ]

  def test_nothing_is_lacking_of_a_whole_one(self, tmp_path, read, monkeypatch):
    counts = {"train": 1000, "validation": 5, "test": 1}
    monkeypatch.setattr(imagenet_originals, "COUNTS", counts)
    made_up_imagenet.write(tmp_path, TRAIN, VALIDATED)
    contents, _ = read("imagenet2012")
    assert contents.lacking == []
    assert contents.found == [
      f"train: 1,000 images of 1,000 classes in {tmp_path}/ILSVRC2012_img_train.tar",
      f"validation: 5 images of 5 classes in {tmp_path}/ILSVRC2012_img_val.tar",
    ]

  def test_other_files_are_left_out_and_counted(self, tmp_path, read):
    made_up_imagenet.write_folders(tmp_path, {}, VALIDATED, sorted_into_classes=False)
    folder = tmp_path / "train" / CLASSES[0]
    folder.mkdir(parents=True)
    for path in (folder / "a.JPEG", folder / "read.me", tmp_path / "train" / "b.JPEG"):
      path.write_bytes(b"x")
    contents, left_out = read("imagenet2012")
    assert contents.splits[0].images.names == ["a.JPEG"]
    assert str(left_out) == (
      "1 beside the classes' folders ('train/b.JPEG'), "
      "1 with other endings ('train/n01440764/read.me')"
    )

  def test_cmyk_and_png_images_are_encoded_again(self, tmp_path, read):
    images = {
      "n01739381": {"n01739381_1309.JPEG": made_up_imagenet.image(1, "CMYK")},
      "n02105855": {
        "n02105855_2933.JPEG": made_up_imagenet.image(2, "RGB", "PNG"),
        "n02105855_2934.JPEG": made_up_imagenet.image(3, "RGB", "PNG"),
      },
    }
    made_up_imagenet.write(tmp_path, images, None)
    split = read("imagenet2012")[0].splits[0]
    of_names = {name: data for name, (data,) in examples(split).items()}
    heads = {name: data[:3] for name, data in of_names.items()}
    jpeg, png = b"\xff\xd8\xff", b"\x89PN"
    assert list(heads.values()) == [jpeg, jpeg, png]
    assert split.images.sizes.tolist() == [len(data) for data in of_names.values()]


class TestMistakes:
  def test_no_folder(self, tmp_path, read):
    expect_error(
      f"There is no folder '{tmp_path / 'x'}'; give the one with ILSVRC2012_img_train.tar and",
      lambda name: read(name, tmp_path / "x"),
    )

  def test_a_folder_of_something_else(self, tmp_path, read):
    expect_error(
      f"'{tmp_path}' has neither ILSVRC2012_img_train.tar nor ILSVRC2012_img_val.tar, nor the "
      "folders train/n01440764, … and val that they are unpacked into; they are at "
      "https://image-net.org/download-images, after registration.",
      read,
    )

  def test_a_class_that_is_none(self, tmp_path, read):
    made_up_imagenet.write(tmp_path, {"n01440765": TRAIN[CLASSES[0]]}, None)
    expect_error(
      f"{tmp_path}/ILSVRC2012_img_train.tar has the class 'n01440765', which is none of ImageNet's "
      "1,000; they are called by their WordNet identifiers, such as n01440764. Did you mean "
      "'n01440764'?",
      read,
    )

  def test_a_folder_of_train_that_is_no_class(self, tmp_path, read):
    (tmp_path / "train" / "tench").mkdir(parents=True)
    (tmp_path / "train" / "tench" / "1.JPEG").write_bytes(b"x")
    expect_error(f"{tmp_path}/train has the class 'tench', which is none of", read)

  def test_no_images(self, tmp_path, read):
    (tmp_path / "train").mkdir()
    expect_error(f"{tmp_path}/train has no images in it; get it again.", read)

  @pytest.mark.parametrize("part", [0.001, 0.3, 0.999])
  def test_a_broken_download(self, tmp_path, read, part):
    made_up_imagenet.write(tmp_path, {name: TRAIN[name] for name in CLASSES[:5]}, None)
    tar = tmp_path / "ILSVRC2012_img_train.tar"
    content = tar.read_bytes().rstrip(b"\0")
    tar.write_bytes(content[: int(part * len(content))])
    expect_error(f"{tar} is damaged (", read)

  def test_validation_images_of_other_names(self, tmp_path, read):
    made_up_imagenet.write(tmp_path, None, {"1.JPEG": b"x"})
    expect_error(
      f"{tmp_path}/ILSVRC2012_img_val.tar has the image '1.JPEG', whose label is not known; the "
      "validation images are called ILSVRC2012_val_00000001.JPEG to",
      read,
    )

  def test_validation_images_of_other_names_in_classes_have_these(self, tmp_path, read):
    path = tmp_path / "val" / CLASSES[7] / "1.JPEG"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert examples(read("imagenet2012")[0].splits[0], "label") == {"1.JPEG": (b"x", 7)}

  def test_validation_images_in_folders_of_other_classes(self, tmp_path, read):
    made_up_imagenet.write_folders(tmp_path, {}, VALIDATED, sorted_into_classes=True)
    name = "ILSVRC2012_val_00000003.JPEG"
    (tmp_path / "val" / VALIDATION[2] / name).rename(tmp_path / "val" / VALIDATION[0] / name)
    expect_error(
      f"{tmp_path}/val has images in folders of other classes than TFDS's list of the validation "
      f"labels has, 1 in all ({VALIDATION[0]}/{name}); sort ILSVRC2012_img_val.tar anew.",
      read,
    )

  def test_an_image_to_encode_again_that_is_damaged(self, tmp_path, read):
    made_up_imagenet.write(tmp_path, {"n01739381": {"n01739381_1309.JPEG": b"x"}}, None)
    expect_error(f"n01739381_1309.JPEG of {tmp_path}/ILSVRC2012_img_train.tar is damaged (", read)


class TestTrees:
  @pytest.mark.parametrize(
    ("name", "archive", "top", "named", "keyed"),
    [
      ("imagenet_a", "imagenet-a.tar", "imagenet-a", "{file}", "{file}"),
      ("imagenet_r", "imagenet-r.tar", "imagenet-r", "{folder}/{file}", "{folder}_{file}"),
      ("imagenet_sketch", "ImageNet-Sketch.zip", "sketch", "{folder}/{file}", "{folder}/{file}"),
      (
        "imagenet_v2/topimages",
        "imagenetv2-top-images.tar.gz",
        "imagenetv2-top-images-format-val",
        "{folder}/{file}",
        "{folder}_{file}",
      ),
    ],
  )
  @pytest.mark.parametrize("form", ["archive", "compressed", "folder"])
  def test_names_keys_and_labels(self, tmp_path, read, name, archive, top, named, keyed, form):
    folders = {label: str(label) if "v2" in name else CLASSES[label] for label in (0, 9, 999)}
    members = {f"{top}/{folder}/{label}.JPEG": b"x" for label, folder in folders.items()}
    if form == "folder":
      for member, data in members.items():
        (tmp_path / member).parent.mkdir(parents=True)
        (tmp_path / member).write_bytes(data)
    elif archive.endswith("zip"):
      made_up_imagenet.write_zip(tmp_path / archive, members | {"sketch/read.me": b"x"})
    else:
      content = made_up_imagenet.tar(members | {f"{top}/read.me": b"x"})
      if form == "compressed":
        content = gzip.compress(content, 1)
      (tmp_path / archive).write_bytes(content)
    contents, left_out = read(name)
    (split,) = contents.splits
    assert split.name == "test"
    expected = {
      named.format(folder=folder, file=f"{label}.JPEG"): (b"x", label)
      for label, folder in folders.items()
    }
    assert examples(split, "label") == expected
    assert [split.key(file) for file in split.images.names] == [
      keyed.format(folder=folder, file=f"{label}.JPEG")
      for label, folder in sorted(folders.items(), key=lambda item: item[1])
    ]
    assert len(left_out) == (form != "folder")
    assert len(contents.lacking) == 2

  def test_what_a_compressed_archive_holds_is_removed(self, tmp_path):
    content = gzip.compress(made_up_imagenet.tar({"imagenet-a/n01440764/1.JPEG": b"x"}))
    (tmp_path / "imagenet-a.tar").write_bytes(content)
    unpacked = tmp_path / "unpacked.tar"
    with contextlib.ExitStack() as stack:
      imagenet_originals.read("imagenet_a", OriginalFiles(tmp_path, unpacked, stack))
      assert unpacked.exists()
    assert not unpacked.exists()

  def test_images_beside_the_classes_are_left_out_and_counted(self, tmp_path, read):
    members = {"imagenet-a/n01440764/1.JPEG": b"x", "other/n01440764/2.JPEG": b"x"}
    (tmp_path / "imagenet-a.tar").write_bytes(made_up_imagenet.tar(members))
    contents, left_out = read("imagenet_a")
    assert contents.splits[0].images.names == ["1.JPEG"]
    assert "1 beside the classes' folders ('imagenet-a.tar/other/n01440764/2.JPEG')" in str(
      left_out
    )

  def test_a_folder_of_something_else(self, tmp_path, read):
    expect_error(
      f"'{tmp_path}' has neither imagenet-a.tar nor the folder imagenet-a that it is unpacked "
      "into; it is at https://people.eecs.berkeley.edu/",
      read,
      "imagenet_a",
    )

  @pytest.mark.parametrize("folder", ["1000", "n01440764", "-1"])
  def test_a_class_that_is_no_number(self, tmp_path, read, folder):
    (tmp_path / "imagenetv2-top-images-format-val" / folder).mkdir(parents=True)
    (tmp_path / "imagenetv2-top-images-format-val" / folder / "1.jpeg").write_bytes(b"x")
    message = f"-format-val has the folder '{folder}'; its classes are called by the numbers 0 to"
    expect_error(message, read, "imagenet_v2/topimages")


class TestReal:
  def test_images_have_both_labels(self, tmp_path, read):
    made_up_imagenet.write(tmp_path, None, VALIDATED)
    real = [[], [1], [2, 999], [3], [0]]
    (tmp_path / "real.json").write_text(json.dumps(real))
    (split,) = read("imagenet2012_real")[0].splits
    assert split.name == "validation"
    labels = [CLASSES.index(LABELS[name]) for name in VALIDATED]
    assert examples(split, "original_label", "real_label") == {
      name: (data, label, others)
      for (name, data), label, others in zip(VALIDATED.items(), labels, real, strict=True)
    }

  @pytest.mark.parametrize(
    "content", ["", "{}", "[1]", "[[1000]]", "[[1.5]]", "[[true]]", "[" * 9999]
  )
  def test_another_file_is_told(self, tmp_path, read, content):
    made_up_imagenet.write(tmp_path, None, VALIDATED)
    (tmp_path / "real.json").write_text(content)
    expect_error(f"'{tmp_path}/real.json' ", read, "imagenet2012_real")

  def test_too_few_labels_are_told(self, tmp_path, read):
    made_up_imagenet.write(tmp_path, None, VALIDATED)
    (tmp_path / "real.json").write_text("[[1]]")
    message = "real.json has no labels for the image 'ILSVRC2012_val_00000002.JPEG' of"
    expect_error(message, read, "imagenet2012_real")

  def test_what_is_not_there_is_told(self, tmp_path, read):
    expect_error("give the folder with ILSVRC2012_img_val.tar, which is", read, "imagenet2012_real")
    made_up_imagenet.write(tmp_path, None, VALIDATED)
    message = f"There is no file '{tmp_path}/real.json'; give the path of real.json of google-"
    expect_error(message, read, "imagenet2012_real")


def test_a_tar_file_of_a_class_twice_has_its_images_twice(tmp_path, read):
  parts = {"n01440764.tar": TRAIN["n01440764"], "./n01440764.tar": TRAIN["n01440764"]}
  content = made_up_imagenet.tar({n: made_up_imagenet.tar(images) for n, images in parts.items()})
  (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(content)
  (split,) = read("imagenet2012")[0].splits
  assert isinstance(split.images.archives[0], Tar)
  with pytest.raises(UserError, match="Two images of the split 'train' have one name: n01440764_0"):
    split.order  # noqa: B018
