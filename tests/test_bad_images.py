"""Training on images as they come from the world: what becomes of each, and what it does not touch.

A folder and a record file have one of each kind of odd and of bad image among good ones. What is
odd is decoded; what is bad is a row of weight zero, and all that a step computes is as without it.
"""

import contextlib
import os
import pathlib
import re
import shutil

import bad_images
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from interrupting import interrupt_at

from benchmarks.survive_kills import TIMINGS
from speedpaper_jax.config.files import load
from speedpaper_jax.data.augmentation import Augmentation
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT
from speedpaper_jax.data.pipeline import eval_batches, order, train_batches
from speedpaper_jax.data.sources import open_split
from speedpaper_jax.distributed import parallel
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import registry
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ConvBlock, LayerSettings
from speedpaper_jax.reports import train as report
from speedpaper_jax.steps.step import TrainState, make_train_step
from speedpaper_jax.storage import undecodable
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import train

GONE = "gone.jpg"  # is removed, as on a disk that others use, once the folder has been read


@pytest.fixture(scope="module")
def contents():
  odd_and_bad = {**bad_images.odd(), **bad_images.bad()}
  return {**odd_and_bad, **bad_images.good(16 - len(odd_and_bad) - 1)}


@pytest.fixture(scope="module")
def folder(contents, tmp_path_factory):
  folder = tmp_path_factory.mktemp("folder")
  bad_images.write_folder(folder, {**contents, GONE: bad_images.odd()["grey.jpg"]})
  split = open_split("folder", "train", str(folder))
  names = [pathlib.Path(split.records.short_name(number)).name for number in range(len(split))]
  pathlib.Path(split.records.short_name(names.index(GONE))).unlink()
  return split, names


@pytest.fixture(scope="module")
def records(contents, tmp_path_factory):
  root = tmp_path_factory.mktemp("records")
  bad_images.write_records(root, contents)
  split = open_split("pictures", "train", str(root))
  labels = [split.records[number]["label"] for number in range(len(split))]
  return split, [split.class_names[label] for label in labels]


@pytest.fixture(params=["folder", "records"])
def split_and_names(request):
  return request.getfixturevalue(request.param)


def by_name(names, numbers, images, mask):
  """The image of each name, None for those without weight."""
  return {
    names[number]: image if weight else None
    for number, image, weight in zip(numbers, images, mask, strict=True)
  }


def read_by_evaluation(split, names):
  crop = EvaluationCrop(bad_images.SIZE)
  (batch,) = eval_batches(split, crop=crop, batch_size=len(split))
  return by_name(names, range(len(split)), batch["image"], batch["mask"])


def read_by_training(split, names):
  """In one epoch."""
  batch = training_batch(split)
  numbers = [int(order(split, 0)[row]) for row in range(len(split))]
  return by_name(names, numbers, batch["image"], batch["mask"])


def training_batch(split):
  augmentation = Augmentation("area")
  options = {"image_size": bad_images.SIZE, "batch_size": len(split), "seed": 0}
  with contextlib.closing(train_batches(split, augmentation=augmentation, **options)) as batches:
    return next(batches)


class TestWhatBecomesOfEach:
  @pytest.mark.parametrize("read", [read_by_evaluation, read_by_training])
  def test_the_odd_are_decoded_the_bad_left_out_with_a_reason(self, split_and_names, read, capsys):
    split, names = split_and_names
    split.undecodable.clear()
    images = read(split, names)
    shape = (bad_images.SIZE, bad_images.SIZE, 3)
    for name, colour in bad_images.COLOURS.items():
      np.testing.assert_array_equal(images[name], np.full(shape, colour), err_msg=name)
    reasons = dict(bad_images.REASONS)
    if GONE in names:
      reasons[GONE] = "it cannot be read (No such file or directory)"
    assert {name for name, image in images.items() if image is None} == reasons.keys()
    found = {names[number]: reason for number, reason in split.undecodable.items()}
    assert found.keys() == reasons.keys()
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len(reasons), "each is told once"
    for name, reason in reasons.items():
      assert found[name].startswith(reason)
      told = split.records.name(names.index(name))
      assert f"warning: {told} cannot be decoded and is left out: {found[name]}" in warnings

  def test_good_images_are_what_they_were(self, split_and_names, contents):
    split, names = split_and_names
    images = read_by_evaluation(split, names)
    crop = EvaluationCrop(bad_images.SIZE)
    for name in names:
      if name.startswith("good"):
        np.testing.assert_array_equal(images[name], crop(contents[name]))

  def test_records_that_a_disk_gives_no_longer_are_left_out(self, tmp_path):
    bad_images.write_records(tmp_path, bad_images.good(200))
    split = open_split("pictures", "train", str(tmp_path))
    (file,) = tmp_path.rglob("*.array_record-*")
    os.truncate(file, file.stat().st_size // 2)  # as where it is on a network and cannot be reached
    mask = training_batch(split)["mask"]
    assert 20 < len(split.undecodable) == (mask == 0).sum() < 180
    assert set(split.undecodable.values()) == {"it cannot be read"}

  def test_an_image_without_a_class_is_an_error_with_its_name(self, contents, tmp_path):
    bad_images.write_records(tmp_path, contents, unlabelled=("png.jpg",))
    split = open_split("pictures", "train", str(tmp_path))
    (number,) = (number for number in range(16 - 1) if split.records[number]["label"] == -1)
    name = f"Record {number} of the split 'train' of pictures/1.0.0"
    with pytest.raises(UserError, match=f"^{name} has the label -1, which is none of the 15 class"):
      training_batch(split)


class Network(nn.Module):
  """A convolution with batch normalization and a softmax layer, in float64."""

  num_classes: int
  batch_norm: BatchNorm

  @nn.compact
  def __call__(self, images, *, train):
    settings = LayerSettings(self.batch_norm, activation="sigmoid", dtype=jnp.float64)
    x = images.astype(jnp.float64)
    x = ConvBlock(6, (3, 3), settings, strides=2, name="conv")(x, train=train)
    return nn.Dense(self.num_classes, dtype=jnp.float64)(x.reshape(x.shape[0], -1))


def good_rows(batch, rows=slice(None)):
  """Of a batch, or of some of its rows."""
  chosen = {name: values[rows] for name, values in batch.items()}
  return {name: values[chosen["mask"] == 1] for name, values in chosen.items()}


def written_out(network, state, groups, in_turn):
  """The sums of a step over groups of good rows, each of which is normalised by itself.

  Args:
    network: that normalises all rows of a batch together.
    state: before the step.
    groups: batches in which all rows count; an empty one has no part in anything.
    in_turn: whether each group moves the running statistics that the one before has left; else
      each moves those before the step, and the mean is taken.

  Returns:
    The gradient of the mean loss; metrics; running statistics.
  """

  def loss(params, batch_stats, batch):
    logits, updated = network.apply(
      {"params": params, "batch_stats": batch_stats},
      DEFAULT.apply(jnp.asarray(batch["image"])),
      train=True,
      mutable=["batch_stats"],
    )
    of_labels = jax.nn.log_softmax(logits)[np.arange(len(batch["label"])), batch["label"]]
    return -jnp.sum(of_labels), (updated["batch_stats"], logits)

  gradient = jax.tree.map(jnp.zeros_like, state.params)
  sums = dict.fromkeys(("loss", "top1", "count"), 0.0)
  before, moved = state.batch_stats, []
  for group in groups:
    if not group["label"].size:
      moved.append(before)
      continue
    (of_group, (after, logits)), gradient_of_group = jax.value_and_grad(loss, has_aux=True)(
      state.params, before, group
    )
    gradient = jax.tree.map(jnp.add, gradient, gradient_of_group)
    sums["loss"] += of_group
    sums["top1"] += np.sum(np.argmax(logits, -1) == group["label"])
    sums["count"] += len(group["label"])
    moved.append(after)
    before = after if in_turn else before
  gradient = jax.tree.map(lambda leaf: leaf / sums["count"], gradient)
  mean = jax.tree.map(lambda *each: sum(each) / len(each), *moved)
  norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
  return gradient, {**sums, "gradient_norm": norm}, before if in_turn else mean


ROWS = 32
STEPS = {
  # Name: statistics of the step; rows that are normalised together; its options.
  "one device": (BatchNorm(decay=0.9), [slice(None)], {"devices": 1}),
  "jit": (BatchNorm(decay=0.9), [slice(None)], {}),
  "pmap, global": (
    BatchNorm(decay=0.9, axis_name=parallel.AXIS),
    [slice(None)],
    {"mode": "pmap"},
  ),
  "pmap, of each replica": (
    BatchNorm(decay=0.9),
    [slice(row, row + 4) for row in range(0, ROWS, 4)],
    {"mode": "pmap"},
  ),
  "jit, groups of 8": (
    BatchNorm(decay=0.9, virtual_batch_size=8),
    [slice(row, row + 8) for row in range(0, ROWS, 8)],
    {},
  ),
  "jit, two micro-batches": (
    BatchNorm(decay=0.9),
    [slice(0, None, 2), slice(1, None, 2)],
    {"accumulation_steps": 2},
  ),
}


@pytest.mark.usefixtures("float64")
class TestAStepIsThatOfTheGoodRowsAlone:
  @pytest.fixture(params=["folder"])
  def batch(self, request):
    split, _ = request.getfixturevalue(request.param)
    augmentation = Augmentation("area", flip=True)
    options = {"image_size": bad_images.SIZE, "batch_size": ROWS, "seed": 0}
    with contextlib.closing(train_batches(split, augmentation=augmentation, **options)) as batches:
      batch = next(batches)
    assert 10 <= batch["mask"].sum() <= ROWS - 10
    return batch

  @pytest.mark.parametrize(
    ("batch", "name"),
    [*(("folder", name) for name in STEPS), ("records", "jit")],
    indirect=["batch"],
  )
  def test_gradient_metrics_and_statistics(self, batch, name):
    batch_norm, parts, options = STEPS[name]
    mesh = parallel.make_mesh(jax.devices()[: options.get("devices", 8)])
    mode, accumulation_steps = options.get("mode", "jit"), options.get("accumulation_steps", 1)
    optimizer = optax.sgd(1.0)
    network = Network(16, batch_norm)
    alone = Network(16, BatchNorm(decay=0.9))
    shape = (1, bad_images.SIZE, bad_images.SIZE, 3)
    variables = alone.init(jax.random.key(0), jnp.zeros(shape), train=False)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    state = TrainState.create(variables, optimizer, with_average=False)
    gradient, metrics, batch_stats = written_out(
      alone, state, [good_rows(batch, rows) for rows in parts], in_turn=accumulation_steps > 1
    )
    step = parallel.jit_train_step(
      make_train_step(
        network,
        optimizer,
        seed=0,
        accumulation_steps=accumulation_steps,
        axis_name=parallel.axis_name(mode),
      ),
      mesh,
      mode,
    )
    after, found = step(parallel.replicate(mesh, state), parallel.shard_batch(mesh, batch))
    expected = jax.tree.map(jnp.subtract, variables["params"], gradient)
    assert found["count"] == batch["mask"].sum()
    pairs = (
      (after.params, expected),
      (after.batch_stats, batch_stats),
      ({key: found[key] for key in metrics}, metrics),
    )
    for one, other in pairs:
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), one, other
      )

  def test_what_the_images_would_be_makes_no_difference(self, batch):
    """As it would if the zeros in their place had a part."""
    alone = Network(16, BatchNorm(decay=0.9))
    shape = (1, bad_images.SIZE, bad_images.SIZE, 3)
    variables = alone.init(jax.random.key(0), jnp.zeros(shape), train=False)
    state = TrainState.create(variables, optax.sgd(1.0), with_average=False)
    with_zeros = {**batch, "mask": np.ones_like(batch["mask"])}
    (_, _, one), (_, _, other) = (
      written_out(alone, state, [good_rows(each)], in_turn=False) for each in (batch, with_zeros)
    )
    one, other = (each["conv"]["batch_norm"]["mean"] for each in (one, other))
    assert np.max(np.abs(one - other)) > 0.001


@pytest.fixture
def config(contents, tmp_path, monkeypatch):
  """Of 12 steps of 8 rows over 15 images, of which 5 are bad, with a line every five."""
  bad_images.write_folder(tmp_path / "images", contents)
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/bn_inception.py:data=folder")
  config.update_from_flattened_dict(tiny.SETTINGS)
  config.data.dir = str(tmp_path / "images")
  config.data.largest_undecodable_share = 0.5
  config.log_every = "5 steps"
  return config


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "run")


def bad_rows(config):
  """Step and path of each bad row that a run has, in their order."""
  split = open_split("folder", "train", config.data.dir)
  paths = [split.records.short_name(int(number)) for number in order(split, config.seed)[: 12 * 8]]
  return [
    (row // 8 + 1, path)
    for row, path in enumerate(paths)
    if pathlib.Path(path).name in bad_images.REASONS
  ]


def train_lines(directory):
  return [
    {name: value for name, value in entry.items() if name not in TIMINGS}
    for entry in directory.metrics()
    if entry["split"] == "train"
  ]


class TestARun:
  def test_counts_and_names_what_is_left_out(self, config, directory, capsys):
    train.run(config, directory)
    output, errors = capsys.readouterr()
    bad = bad_rows(config)
    first_steps = {path: step for step, path in reversed(bad)}
    assert len(first_steps) == 5

    counts = {
      last: sum(first < step <= last for step, _ in bad)
      for first, last in ((0, 5), (5, 10), (10, 12))
    }
    assert {line["step"]: line["left_out"] for line in train_lines(directory)} == counts
    for line in train_lines(directory):
      known = [step for step in first_steps.values() if step <= line["step"]]
      assert line["undecodable_images"] == len(known)
    assert re.findall(r"(\d+) images left out", output) == list(map(str, counts.values()))

    images = undecodable.read(directory)
    assert {image.name: image.step for image in images} == first_steps
    for image in images:
      assert image.reason.startswith(bad_images.REASONS[pathlib.Path(image.name).name])
      told = f"warning: the image '{image.name}' cannot be decoded and is left out: {image.reason}"
      assert errors.count(told) == 1

    # Where the command ends, it has written the summary; the report of a run that goes on shows it.
    training = report.present(directory).sections[-1]
    assert training.paragraphs[-1] == (
      f"5 training images cannot be decoded: {len(bad)} times a mini-batch went without, in its "
      "gradient and its batch statistics, too."
    )
    expected = [(image.name, image.reason, str(image.step)) for image in images]
    assert training.parts[-1].rows == expected

  def test_an_interruption_or_a_kill_makes_no_difference(
    self, config, directory, tmp_path, monkeypatch
  ):
    config.checkpoints_to_keep = 3
    train.run(config, directory)
    other = RunDirectory(tmp_path / "other")
    with monkeypatch.context() as patch:
      interrupt_at(patch, 5)
      with pytest.raises(Interrupted):
        train.run(config, other)
    train.run(config, other)
    for name in ("8", "12"):  # as of a machine that was lost after its last lines
      shutil.rmtree(other.checkpoints / name)
    (other.path / "summary.json").unlink(missing_ok=True)
    train.run(config, other)
    assert train_lines(other) == train_lines(directory)
    assert undecodable.read(other) == undecodable.read(directory)

  def test_too_many_end_it_with_a_sentence_and_the_checkpoint_stays(self, config, directory):
    bad = bad_rows(config)
    config.data.largest_undecodable_share = 0.2
    config.checkpoint_every = "1 steps"
    # The rows of the run, in whole epochs: a fifth of 7 × 15 are 21.
    last = bad[21][0]
    number = sum(step <= last for step, _ in bad)
    with pytest.raises(UserError) as raised:
      train.run(config, directory)
    first = undecodable.read(directory)[0]
    assert str(raised.value) == (
      f"{number} of the last {8 * last} training images, up to step {last}, cannot be decoded, the "
      f"first of the run being '{first.name}' ({first.reason}), and that is more than "
      f"config.data.largest_undecodable_share=0.2 allows; mend them or the disk (undecodable.jsonl "
      f"names them) and give the same command again, which goes on from the checkpoint of step "
      f"{last - 1}, or allow a larger share."
    )
    assert directory.newest_checkpoint() == last - 1
    assert not directory.has_result()
    config.data.largest_undecodable_share = 0.5
    assert train.run(config, directory)["steps"] == 12
    assert len(undecodable.read(directory)) == 5

  def test_at_a_share_of_zero_one_is_too_many(self, config, directory):
    config.data.largest_undecodable_share = 0.0
    first, _ = bad_rows(config)[0]
    with pytest.raises(UserError, match=rf"up to step {first}, .* which begins anew, or allow"):
      train.run(config, directory)
