"""When training images that cannot be decoded are too many, and that each is known once."""

import ml_collections
import numpy as np
import pytest

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.data.pipeline import order
from speedpaper_jax.data.sources import Split
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.storage.undecodable import UndecodableImage
from speedpaper_jax.training.undecodable import UndecodableImages


class Numbered(list):
  """Records that have names."""

  def short_name(self, index):
    return f"record {index}"


def session(images, *, steps, batch_size=10, share=0.1, directory=None, durations=None):
  """That of a run over so many images, all of which are bad where a row says so."""
  split = Split(Numbered([None] * images), 2, ("a", "b"))
  split.undecodable.update({number: f"reason {number}" for number in range(images)})
  config = ml_collections.ConfigDict(
    {"batch_size": batch_size, "seed": 0, "data": {"largest_undecodable_share": share}}
  )
  durations = durations or Durations(batch_size, images)
  return UndecodableImages(split, config, durations, steps, directory)


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path)


class TestTooMany:
  def last_step(self, session, bad_rows):
    """The first one after which there are too many, of the steps' bad rows; None for none."""
    for step, bad in enumerate(bad_rows, 1):
      session.note(step, np.arange(10) >= bad)
      if session.too_many(step, bad) is not None:
        return step
    return None

  @pytest.mark.parametrize("good_before", [0, 100, 5000])
  def test_a_disk_that_fails_ends_a_long_run_after_500_rows(self, good_before):
    rows = [0] * good_before + [10] * 100
    assert self.last_step(session(10**6, steps=10**6), rows) == good_before + 51

  def test_a_few_at_the_start_end_nothing(self):
    assert self.last_step(session(10**6, steps=10**6), [10] * 50 + [0] * 450 + [1] * 2000) is None

  def test_nor_does_a_share_below_the_largest_one(self):
    generator = np.random.default_rng(0)
    assert self.last_step(session(10**6, steps=10**6), generator.binomial(10, 0.08, 5000)) is None

  def test_a_share_above_the_largest_one_ends_it_soon(self):
    generator = np.random.default_rng(0)
    last = self.last_step(session(10**6, steps=10**6), generator.binomial(10, 0.13, 5000))
    assert 300 < last < 500

  @pytest.mark.parametrize(("bad", "last"), [(2, None), (3, 21)])
  def test_few_images_are_judged_by_all_rows_of_a_short_run(self, bad, last):
    """20 images, 10 epochs and a bit: 11 whole epochs have 220 rows, a tenth of them is 22."""
    split_order = order(Split(Numbered([None] * 20), 2, ("a", "b")), 0)
    numbers = np.array([split_order[row] for row in range(210)]).reshape(21, 10)
    counted = session(20, steps=21)
    found = None
    for step, row in enumerate(numbers, 1):
      counted.note(step, row >= bad)
      if counted.too_many(step, int((row < bad).sum())) is not None:
        found = step
        break
    expected = np.flatnonzero((numbers < bad).sum(1).cumsum() > 22)
    assert found == (expected[0] + 1 if expected.size else None)
    assert (found is None) == (last is None)

  def test_a_batch_larger_than_all_that_counts_is_judged_by_itself(self):
    counted = session(10**6, steps=100, batch_size=10_000)
    mask = np.arange(10_000) >= 1000
    for step in (1, 2):
      counted.note(step, mask)
      assert counted.too_many(step, 1000) is None
    counted.note(3, np.arange(10_000) >= 1001)
    assert counted.too_many(3, 1001).startswith("1,001 of the last 10,000 training images, up to ")

  def test_a_sentence_says_how_many_of_how_many_and_which_first(self, directory):
    counted = session(1000, steps=100, share=0.02, directory=directory)
    counted.note(1, np.array([0] + [1] * 9))
    assert counted.too_many(1, 1) is None
    counted.note(2, np.zeros(10))
    assert counted.too_many(2, 10) is None
    counted.note(3, np.zeros(10))
    first = int(order(counted._split, 0)[0])
    assert counted.too_many(3, 10) == (
      f"21 of the last 30 training images, up to step 3, cannot be decoded, the first of the run "
      f"being 'record {first}' (reason {first}), and that is more than "
      "config.data.largest_undecodable_share=0.02 allows"
    )
    assert len(undecodable.read(directory)) == 21, "they are written down before"


class TestNames:
  def record(self, counted, step, bad):
    counted.note(step, np.arange(10) >= bad)
    counted.too_many(step, bad)

  def test_each_is_known_once_with_its_first_step(self, directory):
    counted = session(20, steps=100, share=0.9, directory=directory)
    for step in range(1, 7):  # three epochs
      self.record(counted, step, 2)
    counted.record(6)
    numbers = [int(order(counted._split, 0)[row]) for row in range(60)]
    expected = {}
    for step in range(6):
      for number in numbers[10 * step :][:2]:
        expected.setdefault(number, step + 1)
    found = {image.name: image for image in undecodable.read(directory)}
    assert found == {
      f"record {number}": UndecodableImage(f"record {number}", f"reason {number}", step)
      for number, step in expected.items()
    }
    assert counted.number == len(expected)

  def test_those_of_a_step_whose_metrics_are_not_known_wait(self, directory):
    """A step is started before the metrics of the one before have been read."""
    counted = session(1000, steps=100, directory=directory)
    counted.note(1, np.arange(10) >= 1)
    counted.note(2, np.arange(10) >= 2)
    counted.too_many(1, 1)
    counted.record(1)
    assert [image.step for image in undecodable.read(directory)] == [1]
    counted.too_many(2, 2)
    counted.record(2)
    assert [image.step for image in undecodable.read(directory)] == [1, 2, 2]

  def test_the_next_session_goes_on(self, directory):
    first = session(20, steps=4, share=0.9, directory=directory)
    for step in (1, 2):
      self.record(first, step, 10)
    first.record(2)
    later = session(20, steps=4, share=0.9, directory=directory, durations=Durations(10, 20, 2, 20))
    assert later.number == 20
    self.record(later, 3, 10)
    later.record(3)
    assert later.number == len(undecodable.read(directory)) == 20

  def test_a_session_with_another_batch_finds_its_place(self, directory):
    """Steps of 10 rows after 25 rows in 5 steps."""
    durations = Durations(10, 1000, 5, 25)
    counted = session(1000, steps=100, directory=directory, durations=durations)
    self.record(counted, 6, 1)
    counted.record(6)
    (image,) = undecodable.read(directory)
    assert image == UndecodableImage(
      f"record {order(counted._split, 0)[25]}", f"reason {order(counted._split, 0)[25]}", 6
    )

  def test_control_characters_of_a_reason_are_escaped(self, directory):
    counted = session(1000, steps=100, directory=directory)
    counted._split.undecodable.update(dict.fromkeys(range(1000), "a\x1bb\0"))
    self.record(counted, 1, 1)
    counted.record(1)
    assert undecodable.read(directory)[0].reason == "a\\x1bb\\x00"
