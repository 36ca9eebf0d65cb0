"""The command that prepares ImageNet, and the data set as training opens it."""

import contextlib
import re
import shutil

import made_up_imagenet
import pytest
import tensorflow_datasets as tfds
from commands import finish, start

from speedpaper_jax.data import array_record_writing, imagenet, imagenet_originals, prepare
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.data.store import DataSet, store
from speedpaper_jax.errors import UserError

TRAIN, VALIDATED = made_up_imagenet.small()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  directory = tmp_path_factory.mktemp("source")
  made_up_imagenet.write(directory, TRAIN, VALIDATED)
  return directory


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, source):
  root = tmp_path_factory.mktemp("prepared")
  prepare.prepare("imagenet2012", str(root), str(source), incomplete=True)
  return root


def run(*arguments):
  prepare.main(prepare.parse(["prepare", *map(str, arguments)]))


def expect_error(message, *arguments, **options):
  with pytest.raises(UserError, match=re.escape(message)) as raised:
    prepare.prepare(*map(str, arguments), **options)
  assert "\n" not in str(raised.value)


class TestPrepare:
  def test_the_command_says_what_it_found_and_where_it_is_now(self, tmp_path, source, capsys):
    run("imagenet2012", f"--from={source}", f"--data_dir={tmp_path}", "--incomplete")
    output, errors = capsys.readouterr()
    assert output == f"imagenet2012 is prepared in {tmp_path}/imagenet2012/5.1.0\n"
    train, validation = (source / f"ILSVRC2012_img_{short}.tar" for short in ("train", "val"))
    for sentence in (
      f"Found train: 1,000 images of 1,000 classes in {train}.",
      f"Found validation: 5 images of 5 classes in {validation}.",
      f"Note: the data set is not complete: {train} has 1,000 images, not 1,281,167; {validation} "
      "has 5 images, not 50,000.",
    ):
      assert sentence in errors.splitlines()

  def test_what_is_not_complete_needs_a_flag(self, tmp_path, source):
    expect_error(
      f"The data set is not complete: {source}/ILSVRC2012_img_train.tar has 1,000 images, not "
      f"1,281,167; {source}/ILSVRC2012_img_val.tar has 5 images, not 50,000. Get the missing "
      "files, or prepare what is there with --incomplete.",
      *("imagenet2012", tmp_path, source),
    )
    assert not list(tmp_path.iterdir())

  def test_a_whole_one_does_not(self, tmp_path, source, monkeypatch, capsys):
    monkeypatch.setattr(imagenet_originals, "COUNTS", {"train": 1000, "validation": 5, "test": 1})
    prepare.prepare("imagenet2012", str(tmp_path), str(source))
    assert "Note" not in capsys.readouterr().err

  def test_a_prepared_one_is_left_alone(self, prepared):
    before = made_up_imagenet.files_of(prepared / "imagenet2012" / "5.1.0")
    prepare.prepare("imagenet2012", str(prepared), str(prepared / "absent"))
    assert made_up_imagenet.files_of(prepared / "imagenet2012" / "5.1.0") == before

  def test_one_that_another_process_has_just_prepared_is_left_alone(
    self, tmp_path, prepared, source, monkeypatch
  ):
    alone = array_record_writing.alone

    @contextlib.contextmanager
    def alone_after_another(builder):
      shutil.copytree(prepared / "imagenet2012" / "5.1.0", builder.data_dir)
      with alone(builder):
        yield

    monkeypatch.setattr(array_record_writing, "alone", alone_after_another)
    prepare.prepare("imagenet2012", str(tmp_path), str(source), incomplete=True)
    versions = [root / "imagenet2012" / "5.1.0" for root in (tmp_path, prepared)]
    assert len({str(made_up_imagenet.files_of(version)) for version in versions}) == 1

  def test_its_files_cannot_be_downloaded(self, tmp_path):
    expect_error(
      "'imagenet2012' is prepared from its original files; give the directory that has them with "
      "--from=DIR: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, which are at "
      "https://image-net.org/download-images, after registration.",
      *("imagenet2012", tmp_path),
    )

  def test_what_is_left_out_and_what_is_no_image_is_told(self, tmp_path, capsys):
    images = {"n01440764": {"n01440764_1.JPEG": b"text", "read.me": b"text"}}
    made_up_imagenet.write(tmp_path / "source", images, None)
    prepare.prepare("imagenet2012", str(tmp_path), str(tmp_path / "source"), incomplete=True)
    errors = capsys.readouterr().err.splitlines()
    assert (
      f"Note: left out of '{tmp_path}/source': 1 with other endings "
      "('ILSVRC2012_img_train.tar/read.me')."
    ) in errors
    assert (
      "Note: 1 files do not begin as images do (n01440764_1.JPEG); they are kept, as TFDS keeps "
      "them, and training leaves out what cannot be decoded."
    ) in errors

  @pytest.mark.parametrize("name", ["imagenet2012_corrupted", "imagenet2012_corrupted/fog_1"])
  def test_the_corrupted_one_is_not_read_from_files(self, tmp_path, name):
    expect_error(f"'{name}' is computed from the validation images, by filters", name, tmp_path)
    with pytest.raises(UserError, match="run `tfds build imagenet2012_corrupted/gaussian_noise_1"):
      imagenet.refuse_corrupted(name)

  def test_a_configuration_has_to_be_named(self, tmp_path):
    expect_error("Valid: ", "imagenet_v2", tmp_path)

  @pytest.mark.parametrize("name", [name for name in imagenet.NAMES if name != "imagenet2012"])
  def test_plain_tfds_reads_the_sister_sets_as_its_own(self, tmp_path, name):
    made_up_imagenet.write_sister(tmp_path / "source", name)
    prepare.prepare(name, str(tmp_path), str(tmp_path / "source"), incomplete=True)
    builder = tfds.builder(name, data_dir=tmp_path)
    assert builder.__module__.startswith("tensorflow_datasets.datasets.")
    stored = tfds.builder_from_directory(builder.data_dir)
    assert stored.info.full_name == builder.info.full_name
    assert repr(stored.info.features) == repr(builder.info.features)
    (split,) = builder.info.splits
    records = list(stored.as_data_source(split))
    assert len(records) == len(made_up_imagenet.SISTER_CLASSES)
    if name == "imagenet2012_real":
      assert [len(record["real_label"]) for record in records].count(0) == 1
    else:
      labels = sorted(int(record["label"]) for record in records)
      assert labels == made_up_imagenet.SISTER_CLASSES
      assert len(open_split(name, split, str(tmp_path))) == len(records)

  def test_the_default_configuration_is_tfds_s(self, tmp_path):
    name = "imagenet_v2/topimages"
    made_up_imagenet.write_sister(tmp_path / "source", name)
    prepare.prepare(name, str(tmp_path), str(tmp_path / "source"), incomplete=True)
    content = (tmp_path / "imagenet_v2" / ".config" / "metadata.json").read_text()
    assert content == '{"default_config_name": "matched-frequency"}'

  def test_tensorflow_is_not_imported(self, scratch, tmp_path, source):
    program = (
      "import sys\nfrom speedpaper_jax.data import prepare\nprepare.main(prepare.parse(sys.argv))\n"
      "assert not {'tensorflow', 'jax'} & set(sys.modules)"
    )
    arguments = ("imagenet2012", f"--from={source}", f"--data_dir={tmp_path}", "--incomplete")
    status, _, errors = finish(start(scratch, "-W", "error", "-c", program, *arguments))
    assert status == 0, errors

  def test_an_interruption_says_that_the_same_command_goes_on(self, monkeypatch, capsys):
    def interrupt(*arguments, **options):
      raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare", interrupt)
    monkeypatch.setattr(prepare.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
      run("imagenet2012")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted; the same command goes on.\n"

  def test_without_its_files_the_command_ends_with_a_sentence(self, scratch, tmp_path):
    process = start(
      scratch,
      *("-m", "speedpaper_jax.data.prepare", "imagenet2012", f"--from={tmp_path}"),
      f"--data_dir={tmp_path}",
    )
    status, output, errors = finish(process)
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: '{tmp_path}' has neither ILSVRC2012_img_train.tar nor")
    assert errors.count("\n") == 1


class TestOpening:
  def test_a_part_of_it_is_opened_with_a_note(self, prepared, capsys):
    split = open_split("imagenet2012", "validation", str(prepared))
    assert (len(split), split.num_classes) == (5, 1000)
    assert [split.class_names[split.records[n]["label"]] for n in range(5)] == [
      made_up_imagenet.VALIDATION[int(record["file_name"][15:23]) - 1]
      for record in (split.records[n] for n in range(5))
    ]
    open_split("imagenet2012", "train[:10%]", str(prepared))
    assert capsys.readouterr().err == (
      f"Note: imagenet2012 in {prepared}/imagenet2012/5.1.0 is not the whole: 1,000 images of "
      "1,281,167 in train, 5 images of 50,000 in validation.\n"
    )

  @pytest.mark.parametrize("others", ["swapped", "fewer", "none"])
  def test_classes_in_another_order_are_an_error(self, tmp_path, others):
    names = list(made_up_imagenet.CLASSES)
    names[:2] = names[1::-1]
    names = {"swapped": names, "fewer": made_up_imagenet.CLASSES[:10], "none": None}[others]
    data_set = DataSet(
      "imagenet2012", "5.1.0", (4, 4, 3), len(names or range(1000)), "", "https://example.org", ""
    )
    splits = {"train": [{"image": made_up_imagenet.pixels(), "label": 0}]}
    store(data_set, tmp_path, splits, {"label": names} if names else {})
    wrong = {
      "swapped": "label 0 is 'n01443537', not 'n01440764'",
      "fewer": "label 10 is 'None', not 'n01530575'",
      "none": "label 0 is '0', not 'n01440764'",
    }[others]
    message = (
      f"The classes of imagenet2012 in {tmp_path}/imagenet2012/5.1.0 are others than TFDS's: "
      f"{wrong}; prepare it again, in another --data_dir, with `python -m "
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
      open_split("imagenet2012", "train", str(tmp_path))


def test_all_sets_have_a_builder_of_tfds():
  for name in imagenet.NAMES:
    assert name.partition("/")[0] in tfds.list_builders(with_community_datasets=False)
