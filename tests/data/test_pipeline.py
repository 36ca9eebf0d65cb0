"""Batches: one endless stream of rows per seed, cut the same way on any number of hosts."""

import io
import itertools
import threading

import numpy as np
import pytest
import samples
from PIL import Image

from speedpaper_jax.data import distortions, jpeg_rows
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.pipeline import eval_batches, order, train_batches
from speedpaper_jax.data.sources import Split
from speedpaper_jax.errors import UserError

COUNT = 11
SIZE = 4
PLAIN = Augmentation()
DISTORTED = Augmentation(crop="area", flip=True, photometric=1.0)


def numbered_split(count=COUNT, encode=False):
  """Image i is a gradient whose first channel is i, and its label is i."""
  records = []
  for index in range(count):
    image = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    image[..., 0] = index
    records.append({"image": png(image) if encode else image, "label": index})
  return Split(records, num_classes=count, class_names=tuple(map(str, range(count))))


def png(image):
  encoded = io.BytesIO()
  Image.fromarray(image).save(encoded, "PNG")
  return encoded.getvalue()


def train(split, batches, batch_size=4, seed=0, augmentation=PLAIN, **options):
  iterator = train_batches(
    split,
    image_size=SIZE,
    batch_size=batch_size,
    seed=seed,
    augmentation=augmentation,
    **options,
  )
  taken = list(itertools.islice(iterator, batches))
  iterator.close()
  return taken


def evaluate(split, batch_size=4, **options):
  return list(eval_batches(split, crop=EvaluationCrop(SIZE), batch_size=batch_size, **options))


def stacked(batches):
  return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def assert_same(one, other):
  one, other = stacked(one), stacked(other)
  for key in one:
    np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_a_batch_has_the_documented_shapes_and_types():
  (batch,) = train(numbered_split(), 1)
  assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
    "image": ((4, SIZE, SIZE, 3), "uint8"),
    "label": ((4,), "int32"),
    "mask": ((4,), "float32"),
  }


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64, 96])
def test_every_example_comes_exactly_once_in_each_epoch(batch_size):
  epochs = 3
  rows = stacked(train(numbered_split(), -(-epochs * COUNT // batch_size), batch_size))
  for epoch in range(epochs):
    labels = rows["label"][epoch * COUNT : (epoch + 1) * COUNT]
    assert sorted(labels) == list(range(COUNT))
  assert (rows["mask"] == 1).all()


def test_an_image_keeps_its_label():
  rows = stacked(train(numbered_split(), 6))
  np.testing.assert_array_equal(rows["image"][:, 0, 0, 0], rows["label"])


def test_epochs_and_seeds_have_orders_of_their_own():
  def order(seed, epoch):
    split = numbered_split(100)
    return tuple(train(split, 1, batch_size=100, seed=seed, start=100 * epoch)[0]["label"])

  # Seed s + 1 must not repeat seed s an epoch later, as a sum of seed and epoch would.
  orders = {order(seed, epoch) for seed in range(3) for epoch in range(3)}
  assert len(orders) == 9


def test_a_batch_is_a_pure_function_of_seed_and_position():
  split = numbered_split()
  assert_same(train(split, 7, augmentation=DISTORTED), train(split, 7, augmentation=DISTORTED))


def test_the_same_example_is_distorted_anew_in_each_epoch():
  rows = stacked(train(numbered_split(1), 2, batch_size=1, augmentation=DISTORTED))
  assert (rows["image"][0] != rows["image"][1]).any()


@pytest.mark.parametrize("skipped", [1, 3, 10])
def test_starting_later_equals_skipping(skipped):
  split = numbered_split()
  whole = train(split, skipped + 2, augmentation=DISTORTED)
  assert_same(whole[skipped:], train(split, 2, augmentation=DISTORTED, start=4 * skipped))


@pytest.mark.parametrize("host_count", [1, 2])
def test_devices_complete_the_same_rows(host_count):
  split, options = numbered_split(), {"augmentation": DISTORTED, "batch_size": 64, "start": 3}
  expected = stacked(train(split, 2, **options))
  shares = [
    train(split, 2, distort_on_device=True, host_index=host, host_count=host_count, **options)
    for host in range(host_count)
  ]
  rows = stacked([part for parts in zip(*shares, strict=True) for part in parts])
  images, numbers = rows.pop("image"), rows.pop("distortion")
  assert (images != expected["image"]).any()
  np.testing.assert_array_equal(distortions.on_device(images, numbers), expected.pop("image"))
  for key, values in expected.items():
    np.testing.assert_array_equal(rows[key], values, err_msg=key)


def test_a_damaged_record_has_no_distortion(capsys):
  split = numbered_split(1, encode=True)
  split.records.append({"image": b"no image", "label": 0})
  rows = stacked(train(split, 1, augmentation=DISTORTED, distort_on_device=True))
  (damaged,) = set(np.flatnonzero(rows["mask"] == 0)) - {2, 3}
  assert not rows["image"][damaged].any()
  np.testing.assert_array_equal(rows["distortion"][damaged], distortions.none())
  assert "record 1 cannot be decoded" in capsys.readouterr().err


def test_the_stream_does_not_depend_on_the_batch_size():
  split = numbered_split()
  by_four = train(split, 6, batch_size=4, augmentation=DISTORTED)
  assert_same(by_four, train(split, 2, batch_size=12, augmentation=DISTORTED))


def test_a_late_start_reads_only_its_own_records():
  class Counted(list):
    reads = 0

    def __getitem__(self, index):
      Counted.reads += 1
      return super().__getitem__(index)

  split = numbered_split()
  split = Split(Counted(split.records), split.num_classes, split.class_names)
  train(split, 1, start=10**15)
  assert Counted.reads < 100


@pytest.mark.parametrize("host_count", [2, 4])
def test_hosts_share_the_batches_of_one_host(host_count):
  split = numbered_split()
  alone = train(split, 5, batch_size=8, augmentation=DISTORTED, start=3)
  options = {"augmentation": DISTORTED, "start": 3, "host_count": host_count}
  shares = [train(split, 5, batch_size=8, host_index=host, **options) for host in range(host_count)]
  for batch, *parts in zip(alone, *shares, strict=True):
    assert_same([batch], parts)


def made_up_jpegs():
  """In all ways that Pillow writes them, each with its number as its label."""
  generator = np.random.default_rng(0)
  records = []
  for label in range(COUNT):
    pixels = Image.fromarray(generator.integers(0, 256, (9, 7, 3), np.uint8)).resize((70, 90))
    encoded = io.BytesIO()
    pixels.convert("L" if label == 3 else "RGB").save(
      encoded, "JPEG", subsampling=("4:4:4", "4:2:2", "4:2:0")[label % 3], progressive=label == 4
    )
    records.append({"image": encoded.getvalue(), "label": label})
  return records


def sample_jpegs():
  """Of ImageNet, where they are; their numbers as labels."""
  source = samples.imagenet("train")
  return [{"image": source[index]["image"], "label": index} for index in range(len(source))]


@pytest.mark.parametrize("on_device", [False, True], ids=["on the host", "before a device"])
@pytest.mark.parametrize("jpegs", [made_up_jpegs, sample_jpegs], ids=["made up", "sample"])
def test_two_epochs_are_the_same_to_any_number_of_hosts(jpegs, on_device, monkeypatch):
  """Of images that are decoded no further than their crops, as of those decoded whole."""
  records = jpegs()
  count = len(records)
  split = Split(records, num_classes=count, class_names=tuple(map(str, range(count))))
  options = {"augmentation": DISTORTED, "batch_size": 4, "distort_on_device": on_device}
  batches = -(-2 * count // 4)
  shares = {
    hosts: [
      train(split, batches, host_index=host, host_count=hosts, **options) for host in range(hosts)
    ]
    for hosts in (1, 2, 4)
  }
  (alone,) = shares[1]
  rows = stacked(alone)
  for epoch in range(2):
    assert sorted(rows["label"][epoch * count : (epoch + 1) * count]) == list(range(count))
  for of_hosts in shares.values():
    for batch, *parts in zip(alone, *of_hosts, strict=True):
      assert_same([batch], parts)
  monkeypatch.setattr(jpeg_rows, "stop_below", lambda *_: None)
  assert_same(alone, train(split, batches, **options))


@pytest.mark.parametrize("host_count", [1, 2, 4])
def test_evaluation_reads_the_split_once_in_order(host_count):
  split = numbered_split()
  shares = [evaluate(split, host_index=host, host_count=host_count) for host in range(host_count)]
  rows = stacked([part for parts in zip(*shares, strict=True) for part in parts])
  np.testing.assert_array_equal(rows["label"], [*range(COUNT), 0])
  np.testing.assert_array_equal(rows["mask"], [1] * COUNT + [0])
  np.testing.assert_array_equal(rows["image"][:, 0, 0, 0], [*range(COUNT), 0])
  assert not rows["image"][-1].any()


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 11), (11, 1), (12, 1), (64, 1), (5, 3)])
def test_evaluation_fills_only_its_last_batch(batch_size, batches):
  taken = evaluate(numbered_split(), batch_size)
  assert [len(batch["mask"]) for batch in taken] == [batch_size] * batches
  assert all((batch["mask"] == 1).all() for batch in taken[:-1])
  assert stacked(taken)["mask"].sum() == COUNT


def test_evaluation_crops_the_centre():
  image = np.zeros((16, 16, 3), np.uint8)
  image[2:14, 2:14] = 200
  split = Split([{"image": image, "label": 0}], 1, ("square",))
  (batch,) = eval_batches(split, crop=EvaluationCrop(12, 0.75), batch_size=1)
  assert (batch["image"] == 200).all()


def test_a_damaged_record_becomes_a_row_of_weight_zero_told_once(capsys):
  split = numbered_split(encode=True)
  whole = stacked(evaluate(split))
  split.records[5] = {"image": split.records[5]["image"][:60], "label": 5}
  rows = stacked(evaluate(split))
  trained = stacked(train(split, 11))
  others = np.arange(12) != 5
  for key in rows:
    np.testing.assert_array_equal(rows[key][others], whole[key][others])
    assert not rows[key][5].any()
  assert trained["mask"].sum() == 44 - 4
  (warning,) = capsys.readouterr().err.splitlines()
  assert warning.startswith("warning: record 5 cannot be decoded and is left out: ")


class Named(list):
  """Records that have names."""

  def name(self, index):
    return f"the image 'ants/{index}.jpg'"


def named(split):
  return Split(Named(split.records), split.num_classes, split.class_names)


def test_a_damaged_record_is_told_by_its_name(capsys):
  split = named(numbered_split(encode=True))
  split.records[5]["image"] = split.records[5]["image"][:60]
  evaluate(split)
  train(split, 11)
  (warning,) = capsys.readouterr().err.splitlines()
  assert warning.startswith("warning: the image 'ants/5.jpg' cannot be decoded and is left out: ")


def test_a_wrong_label_is_told_by_its_record_s_name():
  split = named(numbered_split())
  split.records[3]["label"] = COUNT
  with pytest.raises(UserError, match=r"^The image 'ants/3\.jpg' has the label 11, which is none"):
    evaluate(split)


def test_training_ends_when_no_image_can_be_decoded():
  """As on a disk that is gone: an epoch of empty batches would train on nothing."""
  split = numbered_split()
  for record in split.records:
    record["image"] = b"no image"
  with pytest.raises(UserError, match=r"^None of the 11 images to train on can be decoded"):
    train(split, 4)


def test_one_host_of_several_goes_on_without_an_image():
  """The others would wait for it; all of them know how many rows of a step were left out."""
  split = numbered_split()
  for record in split.records:
    record["image"] = b"no image"
  rows = stacked(train(split, 33, host_count=2))
  assert not rows["mask"].any()
  assert split.undecodable.keys() == set(range(COUNT))


@pytest.mark.parametrize("start", [0, 7])
def test_the_order_of_the_records_is_known(start):
  split = numbered_split()
  rows = stacked(train(split, 9, seed=3, start=start))
  known = order(split, 3)
  assert rows["label"].tolist() == [known[start + row] for row in range(36)]


@pytest.mark.parametrize("label", [-1, COUNT])
def test_a_label_outside_of_the_classes_is_an_error(label):
  split = numbered_split()
  split.records[3]["label"] = label
  message = f"Record 3 has the label {label}, which is none of the 11 classes; choose a split"
  with pytest.raises(UserError, match=message):
    evaluate(split)
  with pytest.raises(UserError, match=message):
    train(split, 3)


def test_a_batch_that_does_not_divide_over_the_hosts_is_an_error():
  with pytest.raises(UserError, match="A batch of 6 does not divide over 4 hosts; give a positive"):
    train(numbered_split(), 1, batch_size=6, host_count=4)


def test_an_empty_split_is_an_error():
  with pytest.raises(UserError, match="The split has no examples"):
    evaluate(Split([], 1, ("none",)))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_beyond_32_bits_is_an_error(seed):
  with pytest.raises(UserError, match=f"The seed is {seed}; give a whole number"):
    train(numbered_split(), 1, seed=seed)


def test_closing_stops_the_threads():
  before = set(threading.enumerate())
  iterator = train_batches(
    numbered_split(encode=True), image_size=SIZE, batch_size=2, seed=0, augmentation=DISTORTED
  )
  next(iterator)
  started = set(threading.enumerate()) - before
  iterator.close()
  for thread in started:
    thread.join(timeout=10)
  assert started
  assert not any(thread.is_alive() for thread in started)
