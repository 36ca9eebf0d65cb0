"""The embedded digits are the UCI test set, split without randomness."""

import concurrent.futures
import importlib.resources
import multiprocessing
import pwd

import numpy as np
import pytest

from speedpaper_jax.data import digits
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.errors import UserError


def test_the_file_is_the_published_one():
  pixels, labels = digits.load()
  assert pixels.shape == (1797, 8, 8)
  assert (pixels.min(), pixels.max(), pixels.sum()) == (0, 16, 561718)
  # "Class Distribution" of the test set in the data set's own description.
  assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_embedded_file_is_small_and_has_its_licence_beside_it():
  folder = importlib.resources.files(digits)
  assert len((folder / "digits.csv.gz").read_bytes()) < 100_000
  readme = (folder / "README.md").read_text()
  assert "Creative Commons Attribution 4.0" in readme
  assert "10.24432/C50P49" in readme


def test_every_fifth_digit_of_each_class_is_held_out():
  _, labels = digits.load()
  test = digits.is_test(labels)
  assert (test.sum(), (~test).sum()) == (355, 1442)
  for digit in range(10):
    of_class = test[labels == digit]
    np.testing.assert_array_equal(of_class, np.arange(1, len(of_class) + 1) % 5 == 0)


def test_the_prepared_splits_are_the_digits_and_share_none(tmp_path):
  def contents(split):
    opened = open_split("digits", split, str(tmp_path))
    records = [opened.records[index] for index in range(len(opened))]
    return [(record["label"], record["image"][..., 0].tobytes()) for record in records]

  pixels, labels = digits.load()
  values = np.round(pixels * (255 / 16)).astype(np.uint8)
  expected = [
    (label, image.tobytes()) for label, image in zip(labels.tolist(), values, strict=True)
  ]
  train, test = contents("train"), contents("test")
  assert sorted(train + test) == sorted(expected)
  assert not set(train) & set(test)


def test_the_original_values_can_be_told_from_the_prepared_ones():
  values = np.arange(17)
  np.testing.assert_array_equal(np.round(np.round(values * (255 / 16)) / (255 / 16)), values)


def test_classes_are_named(tmp_path):
  split = open_split("digits", "train", str(tmp_path))
  assert split.num_classes == 10
  assert split.class_names == tuple("0123456789")


def test_the_default_directory_is_that_of_tfds(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
  open_split("digits", "test", "")
  assert (tmp_path / "data" / "digits" / "1.0.0").is_dir()
  monkeypatch.delenv("TFDS_DATA_DIR")
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  open_split("digits", "test", "")
  assert (tmp_path / "home" / "tensorflow_datasets" / "digits" / "1.0.0").is_dir()


def test_they_are_all_that_is_written(tmp_path):
  open_split("digits", "test", str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ["digits"]
  assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_without_a_home_directory_another_is_asked_for(monkeypatch):
  def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

  monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
  monkeypatch.delenv("HOME", raising=False)
  monkeypatch.setattr(pwd, "getpwuid", unknown)
  with pytest.raises(
    UserError, match=r"^'~/tensorflow_datasets' cannot be found, .*; name another"
  ):
    open_split("digits", "test", "")


def _length(data_dir):
  return len(open_split("digits", "train", data_dir))


@pytest.mark.slow
def test_several_processes_may_prepare_them_at_once(tmp_path):
  spawn = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(4, mp_context=spawn) as executor:
    assert list(executor.map(_length, [str(tmp_path)] * 4)) == [1442] * 4
  assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]
