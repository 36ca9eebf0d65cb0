"""Original files → the form that plain TFDS reads."""

import errno
import gzip
import hashlib
import io
import pathlib
import re
import signal
import struct
import tarfile
import tempfile

import numpy as np
import pytest
import samples
import tensorflow_datasets as tfds
from commands import finish, start

from speedpaper_jax.data import download, originals, prepare
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.errors import UserError

COUNTS = {"train": 7, "test": 3}


def example_images(split, shape):
  generator = np.random.default_rng(len(split))
  return generator.integers(0, 256, (COUNTS[split], *shape), np.uint8)


def example_labels(split, num_classes):
  return np.random.default_rng(0).integers(0, num_classes, COUNTS[split]).astype(np.uint8)


def write_idx(directory, images, labels, prefix):
  header = struct.pack(">4i", 2051, *images.shape)
  (directory / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
    gzip.compress(header + images.tobytes(), compresslevel=1)
  )
  header = struct.pack(">2i", 2049, len(labels))
  (directory / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
    gzip.compress(header + labels.tobytes())
  )


def write_mnist(directory):
  for split, prefix in (("train", "train"), ("test", "t10k")):
    write_idx(directory, example_images(split, (28, 28)), example_labels(split, 10), prefix)


def write_tar(path, members):
  with tarfile.open(path, "w:gz") as archive:
    for name, content in members.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


def cifar_records(split, *labels):
  pixels = example_images(split, (32, 32, 3)).transpose(0, 3, 1, 2).reshape(COUNTS[split], -1)
  return np.concatenate([*(column[:, np.newaxis] for column in labels), pixels], axis=1).tobytes()


def cifar10_members():
  folder = "cifar-10-batches-bin"
  train = cifar_records("train", example_labels("train", 10))
  cuts = [0, 3073, 3073 * 2, 3073 * 3, 3073 * 4, len(train)]
  names = "".join(f"{name}\n" for name in "abcdefghij") + "\n"
  return {
    f"{folder}/batches.meta.txt": names.encode(),
    **{
      f"{folder}/data_batch_{batch + 1}.bin": train[cuts[batch] : cuts[batch + 1]]
      for batch in range(5)
    },
    f"{folder}/test_batch.bin": cifar_records("test", example_labels("test", 10)),
    f"{folder}/readme.html": b"",
  }


def write_cifar10(directory):
  write_tar(directory / "cifar-10-binary.tar.gz", cifar10_members())


def write_cifar100(directory):
  members = {
    "coarse_label_names.txt": "".join(f"coarse_{i}\n" for i in range(20)).encode(),
    "fine_label_names.txt": "".join(f"fine_{i}\n" for i in range(100)).encode(),
  }
  for split in COUNTS:
    coarse, fine = example_labels(split, 20), example_labels(split, 100)
    members[f"{split}.bin"] = cifar_records(split, coarse, fine)
  members = {f"cifar-100-binary/{name}": content for name, content in members.items()}
  write_tar(directory / "cifar-100-binary.tar.gz", members)


WRITERS = {
  "mnist": write_mnist,
  "fashion_mnist": write_mnist,
  "cifar10": write_cifar10,
  "cifar100": write_cifar100,
}


@pytest.fixture
def source(tmp_path):
  directory = tmp_path / "source"
  directory.mkdir()
  return directory


def expect_error(message, name, root, source=None):
  with pytest.raises(UserError, match=re.escape(message)) as raised:
    prepare.prepare(name, str(root), source and str(source))
  assert "\n" not in str(raised.value)
  assert not [path for path in root.rglob("*_record*") if path.is_file()]


@pytest.mark.parametrize("name", WRITERS)
def test_plain_tfds_reads_the_result_as_its_own(tmp_path, source, name):
  WRITERS[name](source)
  prepare.prepare(name, str(tmp_path), str(source))
  builder = tfds.builder(name, data_dir=tmp_path)  # TFDS's own builder of that name
  assert builder.__module__.startswith("tensorflow_datasets.image_classification.")
  stored = tfds.builder_from_directory(builder.data_dir)
  assert stored.info.full_name == builder.info.full_name
  assert repr(stored.info.features) == repr(builder.info.features)
  assert stored.info.supervised_keys == builder.info.supervised_keys
  shape = builder.info.features["image"].shape
  image_shape = shape if shape[-1] == 3 else shape[:2]
  for split in COUNTS:
    examples = {
      example["image"].tobytes(): int(example["label"]) for example in builder.as_data_source(split)
    }
    labels = example_labels(split, builder.info.features["label"].num_classes)
    expected = {
      image.tobytes(): int(label)
      for image, label in zip(example_images(split, image_shape), labels, strict=True)
    }
    assert examples == expected


def test_cifar10_has_names_and_numbered_ids(tmp_path, source):
  write_cifar10(source)
  directory = prepare.prepare("cifar10", str(tmp_path), str(source))
  builder = tfds.builder_from_directory(directory)
  assert builder.info.features["label"].names == list("abcdefghij")
  ids = {example["id"].decode() for example in builder.as_data_source("train")}
  assert ids == {f"train_{index:05d}" for index in range(7)}


def test_cifar100_has_both_labels(tmp_path, source):
  write_cifar100(source)
  directory = prepare.prepare("cifar100", str(tmp_path), str(source))
  builder = tfds.builder_from_directory(directory)
  assert builder.info.features["coarse_label"].names[:2] == ["coarse_0", "coarse_1"]
  labels = sorted(
    (example["coarse_label"], example["label"]) for example in builder.as_data_source("train")
  )
  expected = zip(example_labels("train", 20), example_labels("train", 100), strict=True)
  assert labels == sorted(expected)
  assert open_split("cifar100", "train", str(tmp_path)).class_names[99] == "fine_99"


def test_fashion_mnist_has_names(tmp_path, source):
  write_mnist(source)
  prepare.prepare("fashion_mnist", str(tmp_path), str(source))
  assert open_split("fashion_mnist", "test", str(tmp_path)).class_names[0] == "T-shirt/top"


def test_a_prepared_data_set_is_left_alone(tmp_path, source):
  write_mnist(source)
  directory = prepare.prepare("mnist", str(tmp_path), str(source))
  before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
  assert prepare.prepare("mnist", str(tmp_path), str(source / "absent")) == directory
  assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def test_files_that_are_not_the_published_ones_are_noted(tmp_path, source, capsys):
  write_cifar10(source)
  prepare.prepare("cifar10", str(tmp_path), str(source))
  path = source / "cifar-10-binary.tar.gz"
  assert capsys.readouterr().err == f"Note: {path} is not byte for byte the published file.\n"


def test_checksums_are_those_of_tfds():
  folder = pathlib.Path(tfds.__file__).parent / "url_checksums"
  for name, original in originals.ORIGINALS.items():
    lines = [line.split("\t") for line in (folder / f"{name}.txt").read_text().splitlines()]
    published = {url: sha256 for url, _, sha256, _ in lines}
    ours = {original.address + file: sha256 for file, sha256 in original.sha256.items()}
    assert ours == published


def serve(monkeypatch, directory, name):
  """Has downloads come from a local directory instead of the network."""
  original = originals.ORIGINALS[name]
  served = original.__class__(
    original.data_set, directory.as_uri() + "/", original.sha256, original.read
  )
  monkeypatch.setitem(originals.ORIGINALS, name, served)
  return served


def test_what_is_downloaded_is_prepared(tmp_path, source, monkeypatch, capsys):
  write_cifar10(source)
  served = serve(monkeypatch, source, "cifar10")
  archive = source / "cifar-10-binary.tar.gz"
  monkeypatch.setitem(served.sha256, archive.name, hashlib.sha256(archive.read_bytes()).hexdigest())
  prepare.prepare("cifar10", str(tmp_path / "root"))
  assert len(open_split("cifar10", "train", str(tmp_path / "root"))) == 7
  assert capsys.readouterr().err.splitlines()[0] == f"Downloading {archive.as_uri()}"


def test_a_download_of_something_else_is_an_error(tmp_path, source, monkeypatch):
  write_cifar10(source)
  serve(monkeypatch, source, "cifar10")
  url = (source / "cifar-10-binary.tar.gz").as_uri()
  expect_error(f"{url} is not the published file", "cifar10", tmp_path / "root")


def test_a_failed_download_is_an_error(tmp_path, source, monkeypatch):
  serve(monkeypatch, source, "mnist")
  url = (source / "train-images-idx3-ubyte.gz").as_uri()
  expect_error(f"{url} cannot be reached", "mnist", tmp_path / "root")
  expect_error("give its directory with --from=DIR.", "mnist", tmp_path / "root")


def test_downloads_that_do_not_fit_are_told(tmp_path, source, monkeypatch):
  def fetch(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")

  write_mnist(source)
  serve(monkeypatch, source, "mnist")
  monkeypatch.setattr(download, "fetch", fetch)
  message = "train-images-idx3-ubyte.gz does not fit into /"
  expect_error(message, "mnist", tmp_path / "root")
  expect_error("name another directory for the downloads with TMPDIR.", "mnist", tmp_path / "root")


def test_where_no_temporary_directory_can_be_made_is_told(tmp_path, monkeypatch):
  def mkdtemp(*arguments, **options):
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

  monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
  expect_error(
    "There is no directory for the downloads (No usable temporary directory found); name one with",
    *("mnist", tmp_path / "root"),
  )


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_file_is_named(tmp_path, source, name):
  WRITERS[name](source)
  path = sorted(source.iterdir())[-1]
  path.unlink()
  expect_error(f"There is no file {path}; get it from", name, tmp_path / "root", source)


@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.99])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_truncated_file_is_named(tmp_path, source, name, kept):
  WRITERS[name](source)
  path = sorted(source.iterdir())[-1]
  content = path.read_bytes()
  path.write_bytes(content[: kept if kept >= 1 else int(kept * len(content))])
  expect_error(f"{path} is damaged", name, tmp_path / "root", source)


@pytest.mark.parametrize(
  "content",
  [
    struct.pack(">4i", 2049, 7, 28, 28) + bytes(7 * 28 * 28),  # a magic number of labels
    struct.pack(">4i", 2051, 7, 32, 32) + bytes(7 * 32 * 32),  # another size of images
    struct.pack(">4i", 2051, 7, 28, 28) + bytes(7 * 28 * 28 - 1),
    struct.pack(">4i", 2051, 7, 28, 28) + bytes(7 * 28 * 28 + 1),
    struct.pack(">4i", 2051, 0, 28, 28),
    struct.pack(">2i", 2051, 7),
  ],
)
def test_an_idx_file_whose_contents_do_not_fit_its_header_is_named(tmp_path, source, content):
  write_mnist(source)
  path = source / "train-images-idx3-ubyte.gz"
  path.write_bytes(gzip.compress(content))
  expect_error(f"{path} is damaged", "mnist", tmp_path / "root", source)


def test_images_without_labels_are_an_error(tmp_path, source):
  write_mnist(source)
  (source / "train-labels-idx1-ubyte.gz").write_bytes(
    gzip.compress(struct.pack(">2i", 2049, 3) + bytes(3))
  )
  expect_error("has 7 images, but", "mnist", tmp_path / "root", source)


def test_a_label_outside_of_the_classes_is_an_error(tmp_path, source):
  write_idx(source, np.zeros((2, 28, 28), np.uint8), np.array([3, 10], np.uint8), "train")
  write_idx(source, np.zeros((1, 28, 28), np.uint8), np.array([3], np.uint8), "t10k")
  expect_error("the label 10 is not below 10", "mnist", tmp_path / "root", source)


@pytest.mark.parametrize(
  ("member", "content", "message"),
  [
    ("test_batch.bin", None, "it lacks cifar-10-batches-bin/test_batch.bin"),
    ("test_batch.bin", bytes(3072), "3072 bytes in split test"),
    ("test_batch.bin", b"", "0 bytes in split test"),
    ("test_batch.bin", b"\x0a" + bytes(3072), "the label 10 is not below 10"),
    ("batches.meta.txt", b"cat\ndog\n", "batches.meta.txt has 2 names"),
  ],
)
def test_an_archive_of_other_contents_is_named(tmp_path, source, member, content, message):
  members = cifar10_members()
  del members[f"cifar-10-batches-bin/{member}"]
  if content is not None:
    members[f"cifar-10-batches-bin/{member}"] = content
  path = source / "cifar-10-binary.tar.gz"
  write_tar(path, members)
  expect_error(f"{path} is damaged ({message})", "cifar10", tmp_path / "root", source)


def run(*arguments):
  prepare.main(prepare.parse(["prepare", *arguments]))


def test_the_command_line_prepares_the_digits(tmp_path, capsys):
  run("digits", f"--data_dir={tmp_path}")
  assert capsys.readouterr().out == f"digits is prepared in {tmp_path / 'digits' / '1.0.0'}\n"


def test_the_command_line_takes_the_originals_from_a_directory(tmp_path, source):
  write_mnist(source)
  run("mnist", f"--data_dir={tmp_path}", f"--from={source}")
  assert len(open_split("mnist", "test", str(tmp_path))) == 3


def test_the_command_line_ends_with_a_sentence(scratch, tmp_path):
  process = start(scratch, "-m", "speedpaper_jax.data.prepare", "cifra10", f"--data_dir={tmp_path}")
  status, output, errors = finish(process)
  assert (status, output) == (1, "")
  assert errors.startswith("error: 'cifra10' cannot be prepared without TensorFlow.")
  assert "Did you mean 'cifar10'?" in errors


@pytest.fixture
def interrupts_ignored():
  previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
  yield
  signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("interrupts_ignored")
def test_the_command_line_is_interrupted_in_good_order(monkeypatch, capsys):
  def interrupt(*arguments, **options):
    signal.raise_signal(signal.SIGINT)

  monkeypatch.setattr(prepare, "prepare", interrupt)
  with pytest.raises(SystemExit) as exit_:
    run("digits")
  assert exit_.value.code == 130
  assert capsys.readouterr().err == "Interrupted; nothing was written.\n"


@pytest.mark.slow
def test_real_digits_come_through_unchanged(tmp_path, source):
  """Original files made from a prepared MNIST are prepared to the same records again."""
  samples.require()

  def contents(directory, split):
    data_source = tfds.builder_from_directory(directory).as_data_source(split)
    return [(example["image"][..., 0], example["label"]) for example in data_source]

  mnist = samples.DIRECTORY / "mnist" / "3.0.1"
  given = {"train": contents(mnist, "train[:5000]"), "test": contents(mnist, "test")}
  for split, prefix in (("train", "train"), ("test", "t10k")):
    images, labels = zip(*given[split], strict=True)
    write_idx(source, np.stack(images), np.array(labels, np.uint8), prefix)
  directory = prepare.prepare("mnist", str(tmp_path), str(source))
  for split, examples in given.items():
    prepared = contents(directory, split)
    assert sorted((image.tobytes(), int(label)) for image, label in prepared) == sorted(
      (image.tobytes(), int(label)) for image, label in examples
    )
