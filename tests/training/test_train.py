"""The training loop, with a tiny network on eight devices."""

import contextlib
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
import tiny
from interrupting import interrupt_at
from PIL import Image

from benchmarks.survive_kills import TIMINGS
from speedpaper_jax.compilation import determinism
from speedpaper_jax.config.files import load
from speedpaper_jax.data import distortions
from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT, PER_IMAGE, Normalization
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.distributed import parallel
from speedpaper_jax.distributed.interrupts import Interrupted
from speedpaper_jax.distributed.watchdog import Watchdog
from speedpaper_jax.errors import UserError
from speedpaper_jax.inference import model_directory
from speedpaper_jax.inference.evaluation import Evaluator
from speedpaper_jax.inference.prediction import predict
from speedpaper_jax.models import registry
from speedpaper_jax.steps import assembly, build
from speedpaper_jax.storage import run_data, sessions
from speedpaper_jax.storage.checkpoint import Checkpoints
from speedpaper_jax.storage.run_directory import RunDirectory
from speedpaper_jax.training import loop, train
from speedpaper_jax.training.traced_steps import Steps


@pytest.fixture
def config(scratch, monkeypatch):
  monkeypatch.setattr(registry, "create", tiny.create)
  config = load("configs/bn_inception.py")
  config.update_from_flattened_dict(tiny.SETTINGS)
  config.data.dir = str(scratch / "data")
  config.data.eval_split = "test[:50]"
  return config


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / "run")


def entries(directory, split):
  return [entry for entry in directory.metrics() if entry["split"] == split]


def steps(directory, split):
  return [entry["step"] for entry in entries(directory, split)]


def metrics(directory):
  """What metrics.jsonl says, without what depends on the speed of the machine."""
  return [{key: entry[key] for key in entry.keys() - TIMINGS} for entry in directory.metrics()]


def saved_steps(directory):
  return sorted(int(path.name) for path in directory.checkpoints.iterdir())


def interrupt_in_evaluation(monkeypatch):
  """A signal comes with the first batch; returns what says for each batch that it is evaluated."""
  doing, said = Watchdog.doing, []

  def do_and_interrupt(self, what, **named):
    doing(self, what, **named)
    if what.startswith("evaluating"):
      said.append(what)
      if len(said) == 1:
        os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Watchdog, "doing", do_and_interrupt)
  return said


def test_a_run(config, directory):
  config.eval_every = "6 steps"
  summary = train.run(config, directory)
  assert summary["steps"] == 12
  assert summary["eval"].keys() == {"top1", "top5", "loss", "count"}
  assert steps(directory, "train") == list(range(1, 13))
  assert steps(directory, "eval") == [6, 12]
  assert entries(directory, "eval")[-1] == {"step": 12, "split": "eval", **summary["eval"]}
  assert summary["best"] == {"step": 6, "top1": entries(directory, "eval")[0]["top1"]}
  assert saved_steps(directory) == [6, 8, 12], "the best, and the newest two"
  assert json.loads(build.resolve(config).to_json()) == directory.read("config.json")
  assert directory.read("model.json")["num_classes"] == 10


def test_distortions_on_the_devices_are_those_of_the_host(config, directory, monkeypatch, tmp_path):
  config.data.augmentation.update(crop="random", crop_fraction=0.9, photometric=1.0, flip=True)
  on_host = train.run(config, directory)
  monkeypatch.setattr(parallel, "platform", lambda mesh: "gpu")
  seen = []
  on_device = distortions.on_device
  monkeypatch.setattr(
    distortions, "on_device", lambda *given: seen.append(given) or on_device(*given)
  )
  on_devices = train.run(config, RunDirectory(tmp_path / "other"))
  assert seen
  assert on_devices["eval"]["loss"] == pytest.approx(on_host["eval"]["loss"], rel=1e-3)


@pytest.mark.parametrize(
  ("platform", "changes", "distorts"),
  [
    ("gpu", {"crop": "area", "photometric": 0.5}, True),
    ("tpu", {"crop": "area", "photometric": 0.5}, True),
    ("cpu", {"crop": "area", "photometric": 0.5}, False),
    ("gpu", {"crop": "area", "flip": True}, False),
    ("gpu", {"crop": "shift", "shift": 2, "photometric": 0.5}, False),
  ],
)
def test_accelerators_distort_images_where_nothing_comes_after_that(
  config, monkeypatch, platform, changes, distorts
):
  config.data.augmentation.update(**changes)
  monkeypatch.setattr(parallel, "platform", lambda mesh: platform)
  config, mesh = assembly.prepare(config)
  parts = assembly.assemble(config, mesh, num_classes=10, epoch_size=100)
  assert parts.distorts_images == distorts


def test_ten_crops_and_answers_where_that_is_asked_for(config, directory, capsys):
  config.update(evaluate_ten_crops=True, record_answers=True, duration="1 steps")
  config.data.eval_central_fraction = 0.8
  summary = train.run(config, directory)
  assert summary["ten_crops"].keys() == summary["eval"].keys()
  assert summary["ten_crops"]["count"] == 50
  assert summary["ten_crops"]["loss"] != summary["eval"]["loss"]
  assert f"ten crops: top1 {100 * summary['ten_crops']['top1']:.2f}%" in capsys.readouterr().out
  content = directory.read("predictions.json")
  assert content["step"] == 1
  images = content["images"]
  assert [image["name"] for image in images] == [f"record {number}" for number in range(50)]
  right = [image for image in images if image["class"] == image["predicted"]]
  assert len(right) == round(50 * summary["eval"]["top1"])
  loss = -np.mean(np.log([image["class_probability"] for image in images]))
  assert loss == pytest.approx(summary["eval"]["loss"], rel=1e-5)
  assert all(image["probability"] == image["class_probability"] for image in right)


def test_the_worst_mistakes_are_kept_as_the_network_saw_them(config, directory):
  config.update(record_answers=True, duration="1 steps")
  train.run(config, directory)
  _, _, split = run_data.open_data(config.data)
  images = directory.read("predictions.json")["images"]
  pixels = directory.read_arrays()["mistake_pixels"]
  worst = sorted(
    (image["shown"], number) for number, image in enumerate(images) if "shown" in image
  )
  assert [row for row, _ in worst] == list(range(16))
  crop = build.build_evaluation_crop(config)
  for row, number in worst:
    np.testing.assert_array_equal(pixels[row], crop(split.records[number]["image"]))
  shown = [images[number]["probability"] for _, number in worst]
  assert shown == sorted(shown, reverse=True)
  others = [
    image["probability"]
    for image in images
    if image["class"] != image["predicted"] and "shown" not in image
  ]
  assert max(others) <= min(shown)


def test_ten_crops_that_are_one_are_refused_before_anything_is_written(config, directory):
  config.evaluate_ten_crops = True
  with pytest.raises(UserError, match="Ten crops of an image that is squashed"):
    train.run(config, directory)
  assert not directory.path.exists()


def test_training_images_are_evaluated_where_that_is_asked_for(config, directory, capsys):
  config.duration = "1 steps"
  config.evaluate_training_images = True
  summary = train.run(config, directory)
  held_out, training = summary["eval"], summary["train"]
  assert training.keys() == held_out.keys()
  assert training["count"] > held_out["count"]
  assert f"training images: top1 {training['top1']:.2%}" in capsys.readouterr().out


def test_logs_means_over_the_steps_since_the_last_line(config, directory, tmp_path):
  train.run(config, directory)
  config.log_every = "5 steps"
  other = RunDirectory(tmp_path / "other")
  train.run(config, other)
  assert steps(other, "train") == [5, 10, 12]
  losses = [entry["loss"] for entry in entries(directory, "train")]
  assert [entry["loss"] for entry in entries(other, "train")] == pytest.approx(
    [sum(losses[:5]) / 5, sum(losses[5:10]) / 5, sum(losses[10:]) / 2]
  )


def test_steps_can_be_traced(config, directory, capsys):
  config.duration = "4 steps"
  train.run(config, directory, profile=Steps(2, 3))
  assert list((directory.path / "profile").rglob("*.xplane.pb"))
  assert f"tensorboard --logdir={directory.path / 'profile'}\n" in capsys.readouterr().out


def test_speed_is_measured(config, directory):
  train.run(config, directory)
  for entry in entries(directory, "train"):
    assert entry["images_per_second"] == pytest.approx(8 / entry["step_seconds"])
    assert entry["images_per_second_per_chip"] == pytest.approx(entry["images_per_second"] / 8)
    assert 0 <= entry["data_wait_seconds"] <= entry["step_seconds"]


def test_the_best_checkpoint_stays_however_long_the_run(config, directory, monkeypatch):
  """Step 2 is the best here; it is not among the newest two, nor at a checkpoint's time."""
  accuracies = {1: 0.1, 2: 0.9, 3: 0.9, 4: 0.2}
  evaluate = Evaluator.__call__

  def rank(self, variables, on_batch):
    self.calls = getattr(self, "calls", 0) + 1
    return {**evaluate(self, variables, on_batch), "top1": accuracies.get(self.calls, 0.3)}

  monkeypatch.setattr(Evaluator, "__call__", rank)
  config.eval_every = "1 steps"
  with monkeypatch.context() as patch:
    interrupt_at(patch, 6)
    with pytest.raises(Interrupted):
      train.run(config, directory)
  assert train.run(config, directory)["best"] == {"step": 2, "top1": 0.9}
  assert saved_steps(directory) == [2, 8, 12]


def test_without_keep_best_the_newest_alone_stay(config, directory):
  config.eval_every = "1 steps"
  config.keep_best = False
  assert "best" not in train.run(config, directory)
  assert saved_steps(directory) == [8, 12]


class TestOtherReplicas:
  """With statistics of each device's images, other devices are other statistics."""

  @pytest.mark.parametrize(("statistics", "tells"), [("replica", True), ("global", False)])
  def test_are_told_of(self, config, directory, statistics, tells, monkeypatch, capsys):
    config.batch_norm.statistics = statistics
    config.batch_size = 16
    config.duration = "2 steps"
    train.run(config, directory)
    four = parallel.make_mesh(jax.devices()[:4])
    monkeypatch.setattr(parallel, "make_mesh", lambda devices=None: four)
    config.duration = "4 steps"
    train.run(config, directory)
    assert ("continuing on 4 devices, after 8" in capsys.readouterr().err) == tells


class TestDeterminism:
  """XLA's flag is recorded, and told of where a run on a GPU goes on with it or without it anew."""

  @pytest.fixture
  def take(self, config, directory, monkeypatch, capsys):
    """What a start that takes two more steps prints to standard error."""

    def take(flags):
      monkeypatch.setenv("XLA_FLAGS", flags)
      steps_before = sum(1 for entry in directory.metrics() if entry["split"] == "train")
      config.duration = f"{steps_before + 2} steps"
      train.run(config, directory)
      return capsys.readouterr().err

    return take

  @pytest.fixture
  def on_gpus(self, monkeypatch):
    monkeypatch.setattr(parallel, "platform", lambda mesh: "gpu")

  @pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
      (determinism.FLAG, "", "the run had --deterministic and goes on without it: on GPUs the "),
      ("", determinism.FLAG, "the run had no --deterministic and goes on with it: on GPUs the "),
    ],
    ids=["no longer", "from here on"],
  )
  @pytest.mark.usefixtures("on_gpus")
  def test_another_kind_of_steps_is_told(self, take, directory, before, now, sentence):
    take(before)
    assert f"warning: {sentence}steps after step 2 " in take(now)
    recorded = [each.deterministic for each in sessions.read(directory)]
    assert recorded == [bool(before), bool(now)]
    assert "--deterministic" not in take(now)

  @pytest.mark.usefixtures("on_gpus")
  def test_nothing_is_told_where_it_is_not_known(self, take, directory):
    """Of a run of an earlier version."""
    take(determinism.FLAG)
    content = directory.read("sessions.json")
    del content["sessions"][0]["deterministic"]
    directory.write("sessions.json", content)
    assert "--deterministic" not in take("")

  def test_elsewhere_nothing_is_told(self, take):
    take(determinism.FLAG)
    assert "--deterministic" not in take("")


def test_the_seed_makes_the_difference(config, directory, tmp_path):
  config.duration = "3 steps"
  train.run(config, directory)
  config.seed = 1
  other = RunDirectory(tmp_path / "other")
  train.run(config, other)
  assert entries(directory, "eval") != entries(other, "eval")


def test_longer_than_before(config, directory, capsys):
  train.run(config, directory)
  config.duration = "14 steps"
  assert train.run(config, directory)["steps"] == 14
  assert steps(directory, "train") == list(range(1, 15))
  assert "continuing with another config.duration" in capsys.readouterr().err
  assert directory.read("config.json")["duration"] == "14 steps"


class TestContinuing:
  """A finished run of 12 steps, and the same command with another config."""

  @pytest.fixture
  def longer(self, config, directory):
    """The config of a run that goes on to 14 steps."""
    train.run(config, directory, command="first")
    config.duration = "14 steps"
    return config

  def go_on(self, config, directory, capsys):
    """What a start prints to standard error."""
    capsys.readouterr()
    assert train.run(config, directory, command="second")["steps"] == 14
    assert steps(directory, "train") == list(range(1, 15))
    return capsys.readouterr().err

  @pytest.mark.parametrize(
    "changes",
    [
      {"optimizer.l2": 0.01, "optimizer.clip_norm": 1.0},
      {"optimizer.l2": 0.0, "optimizer.sgd.momentum": 0.0},
    ],
  )
  def test_with_another_optimiser_s_settings(self, longer, directory, capsys, changes):
    longer.update_from_flattened_dict(changes)
    told = self.go_on(longer, directory, capsys)
    for field in changes:
      assert f"continuing with another config.{field}, " in told
    assert directory.read("config.json") == json.loads(build.resolve(longer).to_json())
    # And back, over a checkpoint of the other form.
    longer.update_from_flattened_dict({"optimizer.l2": 4e-5, "optimizer.sgd.momentum": 0.9})
    longer.duration = "15 steps"
    assert train.run(longer, directory)["steps"] == 15
    model_directory.load(directory.path, parallel.make_mesh(), step=14)

  def test_an_average_begins_with_the_parameters(self, config, directory, capsys):
    config.average_decay = 0.0
    train.run(config, directory)
    config.update(average_decay=0.9, duration="14 steps")
    mesh = parallel.make_mesh()
    at_first = model_directory.load(directory.path, mesh).variables
    self.go_on(config, directory, capsys)
    before = model_directory.load(directory.path, mesh, step=12).variables
    jax.tree.map(np.testing.assert_array_equal, before, at_first)

  @pytest.mark.parametrize(
    ("field", "value", "message"),
    [
      ("average_decay", 0.0, "holds a run with another config.average_decay; .* 0 is refused"),
      ("data.train_split", "train[:50%]", "with another config.data.train_split; the run's place"),
      (
        "data.per_image_whitening",
        True,
        "config.data.per_image_whitening; the weights have learned",
      ),
      ("data.image_size", 24, r"Checkpoint 12 .* another config: its params/logits/kernel is"),
    ],
  )
  def test_what_does_not_fit_is_refused_before_anything_is_written(
    self, longer, directory, field, value, message
  ):
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    longer.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
      train.run(longer, directory)
    after = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    assert after == before

  def test_a_result_of_fewer_steps_does_not_stay(self, longer, directory, monkeypatch):
    directory.write("summary.json", {"steps": 12})
    interrupt_at(monkeypatch, 13)
    with pytest.raises(Interrupted):
      train.run(longer, directory)
    assert not (directory.path / "summary.json").exists()

  def test_sessions_are_recorded(self, longer, directory, capsys):
    longer.optimizer.learning_rate = 0.02
    longer.optimizer.schedule.name = "constant"
    self.go_on(longer, directory, capsys)
    train.run(longer, directory, command="third")
    first, second = sessions.read(directory)
    assert (first.first_step, first.last_step, first.saved_step) == (0, 12, 12)
    assert (second.first_step, second.last_step, second.saved_step) == (12, 14, 14)
    assert (first.command, second.command) == ("first", "second")
    assert (first.end, second.end) == ("finished", "finished")
    assert (first.duration, second.duration) == ("12 steps", "14 steps")
    assert not first.changes
    assert second.changes["duration"] == ["12 steps", "14 steps"]
    assert second.changes["optimizer.learning_rate"] == [0.0075, 0.02]
    assert second.learning_rates[1] == pytest.approx(0.02 / 4)

  def test_a_shorter_run_than_has_been_trained_changes_nothing(self, longer, directory, capsys):
    before = directory.read("config.json")
    longer.update(duration="5 steps", log_every="2 steps")
    capsys.readouterr()
    assert train.run(longer, directory)["steps"] == 12
    assert (
      "warning: the run has taken 12 steps, and config.duration='5 steps' ends after 5: nothing is "
      "trained, and config.duration had no effect.\n"
    ) in capsys.readouterr().err
    assert directory.read("config.json") == {**before, "log_every": "2 steps"}
    assert len(sessions.read(directory)) == 1

  def test_a_cosine_that_is_made_longer_jumps(self, config, directory, capsys):
    config.optimizer.schedule.name = "cosine"
    config.optimizer.learning_rate = 0.04  # at 32 images
    train.run(config, directory)
    config.duration = "24 steps"
    capsys.readouterr()
    train.run(config, directory)
    assert (
      "warning: the learning rate goes from 0 to 0.005 after step 12; for a steady one set "
      "config.optimizer.schedule.name='constant'"
    ) in capsys.readouterr().err
    assert sessions.read(directory)[1].learning_rates == pytest.approx([0, 0.005])
    rates = [entry["learning_rate"] for entry in entries(directory, "train")]
    expected = [0.005 * (1 + np.cos(np.pi * step / 12)) for step in range(12)]
    expected += [0.005 * (1 + np.cos(np.pi * step / 24)) for step in range(12, 24)]
    assert rates == pytest.approx(expected, abs=1e-8)

  def test_with_another_batch_size_epochs_are_those_of_the_examples(
    self, config, directory, capsys
  ):
    config.data.train_split = "train[:160]"
    config.update(duration="2 epochs", eval_every="1 epochs")  # 20 steps of 8 to an epoch
    config.optimizer.schedule.update(name="step", factor=0.1, boundaries=("3 epochs",))
    train.run(config, directory)
    config.update(batch_size=16, duration="4 epochs")
    capsys.readouterr()
    assert train.run(config, directory)["steps"] == 40 + 20
    printed = capsys.readouterr()
    assert "step 50/60  epoch 3.0  " in printed.out
    assert "step 60/60  epoch 4.0  " in printed.out
    assert (
      "continuing with another config.batch_size, 16 in place of 8: the run goes" in printed.err
    )
    assert steps(directory, "eval") == [20, 40, 50, 60]
    rates = {entry["step"]: entry["learning_rate"] for entry in entries(directory, "train")}
    assert rates[50] == pytest.approx(2 * rates[40])
    assert rates[51] == pytest.approx(0.2 * rates[40])
    last = sessions.read(directory)[-1]
    assert last.epochs(last.first_step) == 2.0
    assert last.epochs(last.last_step) == 4.0


class TestRemovedCheckpoints:
  @pytest.fixture
  def removed(self, config, directory):
    train.run(config, directory)
    shutil.rmtree(directory.checkpoints)
    return directory

  def test_are_told_of_and_nothing_is_lost(self, config, removed):
    before = {path: path.read_bytes() for path in removed.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="has taken 12 steps and saved its state, but its checkp"):
      train.run(config, removed)
    after = {path: path.read_bytes() for path in removed.path.rglob("*") if path.is_file()}
    assert after == before

  def test_of_an_interrupted_run(self, config, directory, monkeypatch):
    with monkeypatch.context() as patch:
      interrupt_at(patch, 5)
      with pytest.raises(Interrupted):
        train.run(config, directory)
    shutil.rmtree(directory.checkpoints)
    directory.checkpoints.mkdir()
    with pytest.raises(UserError, match="put them back into"):
      train.run(config, directory)
    assert steps(directory, "train") == list(range(1, 7))

  def test_a_run_that_had_none_starts_again(self, config, directory, monkeypatch, capsys):
    def fail(self, *arguments):
      raise UserError("The disk is full.")

    config.duration = "4 steps"
    with monkeypatch.context() as patch:
      patch.setattr(Checkpoints, "save", fail)
      with pytest.raises(UserError, match="The disk is full"):
        train.run(config, directory)
    assert train.run(config, directory)["steps"] == 4
    assert "starting again: 4 steps were taken, but no checkpoint" in capsys.readouterr().out
    assert steps(directory, "train") == [1, 2, 3, 4]
    assert [session.end for session in sessions.read(directory)] == [
      "The disk is full.",
      "finished",
    ]


def test_converted_weights_are_no_run(config, tmp_path):
  tiny.write_model_directory(
    tmp_path, tuple("0123456789"), Preprocessing(EvaluationCrop(16), DEFAULT)
  )
  with pytest.raises(UserError, match=r"holds weights, not a run .* config\.init_from"):
    train.run(config, RunDirectory(tmp_path))


def test_those_of_version_0_1_0_are_none_either(config, tmp_path):
  """They had a whole state, at step 0."""
  directory = RunDirectory(tmp_path / "converted")
  directory.start(config)
  with contextlib.closing(Checkpoints(directory.checkpoints)) as saved:
    parts = assembly.assemble(config, parallel.make_mesh(), 10, epoch_size=1437)
    saved.save(0, parts.initial_state(), {"seconds": 0.0, "devices": 1})
  with pytest.raises(UserError, match=r"holds converted weights, not a run .* config\.init_from"):
    train.run(config, directory)


class TestInterruption:
  def test_an_evaluation_that_was_due_is_made_up_for(self, config, directory, monkeypatch):
    config.eval_every = "6 steps"
    with monkeypatch.context() as patch:
      interrupt_at(patch, 6)
      with pytest.raises(Interrupted, match="SIGTERM after step 6"):
        train.run(config, directory)
    assert saved_steps(directory)[-1] == 6
    train.run(config, directory)
    assert steps(directory, "train") == list(range(1, 13))
    assert steps(directory, "eval") == [6, 12]

  def test_equal_to_a_run_without(self, config, directory, tmp_path, monkeypatch):
    other = RunDirectory(tmp_path / "other")
    expected = train.run(config, other)
    with monkeypatch.context() as patch:
      interrupt_at(patch, 5)
      with pytest.raises(Interrupted):
        train.run(config, directory)
    assert train.run(config, directory)["eval"] == expected["eval"]
    assert metrics(directory) == metrics(other)

  @pytest.mark.parametrize("step", [7])
  def test_a_line_is_over_the_same_steps_as_without(
    self, config, directory, tmp_path, monkeypatch, step
  ):
    config.log_every = "5 steps"
    config.duration = "11 steps"
    other = RunDirectory(tmp_path / "other")
    train.run(config, other)
    take = loop.Loop._step

    def take_and_interrupt(self, number, *arguments):
      if number == step:
        os.kill(os.getpid(), signal.SIGTERM)
      return take(self, number, *arguments)

    with monkeypatch.context() as patch:
      patch.setattr(loop.Loop, "_step", take_and_interrupt)
      with pytest.raises(Interrupted):
        train.run(config, directory)
    assert saved_steps(directory)[-1] == step
    train.run(config, directory)
    assert steps(directory, "train") == [5, 10, 11]
    assert metrics(directory) == metrics(other)

  def test_an_evaluation_is_left_and_made_up_for(self, config, directory, monkeypatch):
    """There may be no time for all of its images."""
    config.eval_every = "6 steps"
    config.eval_batch_size = 8  # of 50 images
    with monkeypatch.context() as patch:
      batches = interrupt_in_evaluation(patch)
      with pytest.raises(Interrupted, match="SIGTERM after step 6"):
        train.run(config, directory)
    assert batches == ["evaluating after step 6"]
    assert saved_steps(directory)[-1] == 6
    assert steps(directory, "eval") == []
    train.run(config, directory)
    assert steps(directory, "eval") == [6, 12]

  def test_during_the_evaluation_of_training_images(self, config, directory, monkeypatch):
    config.evaluate_training_images = True
    evaluate, batches = Evaluator.on_training_images, []

    def interrupt_and_evaluate(self, variables, on_batch):
      def count_batches():
        batches.append(on_batch)
        on_batch()

      os.kill(os.getpid(), signal.SIGTERM)
      return evaluate(self, variables, count_batches)

    with monkeypatch.context() as patch:
      patch.setattr(Evaluator, "on_training_images", interrupt_and_evaluate)
      with pytest.raises(Interrupted, match="SIGTERM after step 12"):
        train.run(config, directory)
    assert len(batches) == 1
    assert saved_steps(directory)[-1] == 12
    assert train.run(config, directory).keys() == {"steps", "eval", "best", "train", "seconds"}
    assert steps(directory, "eval") == [12]

  def test_the_last_checkpoint_is_written_all_the_same(self, config, directory, monkeypatch):
    close, signals = Checkpoints.close, [signal.SIGINT]

    def interrupt_and_close(self):
      if signals:
        os.kill(os.getpid(), signals.pop())
      close(self)

    monkeypatch.setattr(Checkpoints, "close", interrupt_and_close)
    assert train.run(config, directory)["steps"] == 12
    assert saved_steps(directory) == [8, 12]


class TestData:
  """A run goes on with the classes that it began with."""

  @pytest.fixture
  def folder(self, config, tmp_path):
    """Two classes of one colour each, of which the config is."""
    folder = tmp_path / "folder"
    for split in ("train", "test"):
      for name, value in (("ant", 0), ("bee", 200)):
        (folder / split / name).mkdir(parents=True)
        for index in range(4):
          Image.new("L", (16, 16), value + index).save(folder / split / name / f"{index}.png")
    config.data.update(name="folder", dir=str(folder), eval_split="test")
    config.duration = "1 steps"
    return folder

  def test_of_other_names_it_leaves_everything_as_it_is(self, config, directory, folder):
    train.run(config, directory)
    assert directory.read("data.json")["train"]["examples"] == 8
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    config.duration = "2 steps"
    for split in ("train", "test"):
      (folder / split / "ant").rename(folder / split / "wasp")
    with pytest.raises(UserError, match=r"with other classes .*: new 'wasp', gone 'ant'"):
      train.run(config, directory)
    for split in ("train", "test"):
      (folder / split / "wasp").rename(folder / split / "ant")
      shutil.copytree(folder / split / "ant", folder / split / "cat")
    with pytest.raises(UserError, match=r"with other classes .*: new 'cat'\. Choose another"):
      train.run(config, directory)
    after = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    assert after == before
    model_directory.load(directory.path, parallel.make_mesh())

  def test_with_another_seed_of_the_split_it_is_refused(self, config, directory, folder):
    train.run(config, directory)
    config.data.split_seed = 1
    with pytest.raises(
      UserError, match=r"another config\.data\.split_seed; the run's place is one"
    ):
      train.run(config, directory)

  def test_with_more_images_it_goes_on_and_says_so(self, config, directory, folder, capsys):
    train.run(config, directory)
    Image.new("L", (16, 16)).save(folder / "train" / "ant" / "4.png")
    config.duration = "2 steps"
    assert train.run(config, directory)["steps"] == 2
    assert "(8 before, 9 now)" in capsys.readouterr().err
    assert directory.read("data.json")["changes"][0]["until_step"] == 1


class TestPerImageWhitening:
  @pytest.fixture
  def config(self, config):
    config.data.per_image_whitening = True
    return config

  def test_it_is_stated_and_done_in_evaluation_and_prediction(self, config, directory, tmp_path):
    summary = train.run(config, directory)
    content = directory.read("model.json")
    assert content["format"] == 3
    assert content["preprocessing"]["per_image_whitening"] is True

    model = model_directory.load(directory.path, parallel.make_mesh())
    _, _, split = run_data.open_data(config.data)
    records = [split.records[number] for number in range(len(split))]
    pixels = np.array([model.description.preprocessing.crop(record["image"]) for record in records])
    images = pixels.astype(np.float64)
    centred = images - images.mean((1, 2, 3), keepdims=True)
    whitened = centred / np.maximum(images.std((1, 2, 3), keepdims=True), 1 / np.sqrt(16 * 16 * 3))
    logits = model.network.apply(model.variables, np.float32(whitened), train=False)
    log_probabilities = np.asarray(jax.nn.log_softmax(logits))
    labels = [record["label"] for record in records]
    expected = -np.mean(log_probabilities[np.arange(len(labels)), labels])
    assert summary["eval"]["loss"] == pytest.approx(expected, rel=1e-5)

    Image.fromarray(pixels[0]).save(tmp_path / "0.png")
    (answer,) = predict(model, parallel.make_mesh(), [tmp_path / "0.png"], batch_size=1, top=1)
    best = np.exp(log_probabilities[0].max())
    assert answer.candidates[0].probability == pytest.approx(best, rel=1e-4)

  def test_weights_that_are_taken_over_keep_it(self, config, directory, tmp_path):
    train.run(config, directory)
    config.data.per_image_whitening = False
    config.init_from = str(directory.path)
    other = RunDirectory(tmp_path / "other")
    train.run(config, other)
    normalization = model_directory.load_description(other.path).preprocessing.normalization
    assert normalization == PER_IMAGE

  def test_weights_of_another_input_are_not_taken_over(self, config, directory, tmp_path):
    config.data.per_image_whitening = False
    train.run(config, directory)
    config.data.per_image_whitening = True
    config.init_from = str(directory.path)
    other = RunDirectory(tmp_path / "other")
    with pytest.raises(
      UserError, match=r"per_image_whitening=True is not the input of the weights"
    ):
      train.run(config, other)
    assert not other.path.exists()


class TestFineTuning:
  """Weights from another directory, everything else new."""

  CAFFE = Normalization("BGR", (104.0, 117.0, 123.0), (255.0, 255.0, 255.0))

  @pytest.fixture
  def source(self, config, tmp_path):
    """A trained network of ten classes whose images are normalised in another way."""
    path = tmp_path / "source"
    train.run(config, RunDirectory(path))
    content = json.loads((path / "model.json").read_text())
    content["preprocessing"].update(self.CAFFE.to_json())
    (path / "model.json").write_text(json.dumps(content))
    return path

  def test_training_begins_where_the_source_ended(self, source, config, directory, capsys):
    config.init_from = str(source)
    config.optimizer.learning_rate = 1e-30
    config.batch_norm.decay = 1 - 1e-12
    config.duration = "1 steps"
    summary = train.run(config, directory)
    assert summary["steps"] == 1
    assert f"starting from the weights in {source}\n" in capsys.readouterr().out
    mesh = parallel.make_mesh()
    old, new = (model_directory.load(path, mesh) for path in (source, directory.path))
    jax.tree.map_with_path(
      lambda path, one, other: np.testing.assert_allclose(one, other, 1e-4, 1e-4, err_msg=path),
      old.variables,
      new.variables,
    )
    assert new.description.preprocessing.normalization == self.CAFFE

  def test_what_is_frozen_stays_to_the_bit(self, source, config, directory):
    config.init_from, config.freeze = str(source), "conv"
    config.optimizer.l2 = 0.1
    train.run(config, directory)
    mesh = parallel.make_mesh()
    old = model_directory.load(source, mesh)
    for step in saved_steps(directory):
      new = model_directory.load(directory.path, mesh, step)
      for part in ("params", "batch_stats"):
        for before, after in zip(
          jax.tree.leaves(old.variables[part]["conv"]),
          jax.tree.leaves(new.variables[part]["conv"]),
          strict=True,
        ):
          assert np.asarray(before).tobytes() == np.asarray(after).tobytes()
      kernels = [model.variables["params"]["logits"]["kernel"] for model in (old, new)]
      assert np.abs(np.subtract(*kernels)).max() > 1e-4

  def test_a_frozen_layer_that_there_is_not_is_refused_before_anything_is_written(
    self, config, directory
  ):
    config.freeze = "covn"
    with pytest.raises(UserError, match=r"config.freeze has 'covn', which .* Did you mean 'conv'"):
      train.run(config, directory)
    assert not directory.path.exists()

  @pytest.mark.parametrize(
    ("pattern", "message"),
    [
      ("covn", r"per_activation has 'covn', which is no layer with batch .* Did you mean 'conv'"),
      ("logits", r"per_activation has 'logits', which is no layer with batch normalization\. V"),
    ],
  )
  def test_so_is_a_layer_that_is_to_be_per_activation(self, config, directory, pattern, message):
    config.batch_norm.per_activation = pattern
    with pytest.raises(UserError, match=message):
      train.run(config, directory)
    assert not directory.path.exists()

  def test_weights_of_each_activation_fit_images_of_one_size(self, config, directory, tmp_path):
    config.batch_norm.per_activation = "conv"
    config.duration = "2 steps"
    train.run(config, directory)
    model = model_directory.load(directory.path, parallel.make_mesh())
    for part in model.variables["params"], model.variables["batch_stats"]:
      assert {leaf.shape for leaf in jax.tree.leaves(part["conv"]["batch_norm"])} == {(4, 4, 8)}
    assert model_directory.with_crop(model, image_size=16).description == model.description
    with pytest.raises(UserError, match=r"takes images of 16 pixels alone, and not of 24: in conf"):
      model_directory.with_crop(model, image_size=24)

    config.data.image_size = 24
    with pytest.raises(UserError, match=r"bias is float32\[4,4,8\], not float32\[6,6,8\]"):
      train.run(config, directory)
    config.init_from = str(directory.path)
    with pytest.raises(UserError, match=r"4×4×8 there and 6×6×8 here; .* config.data.image_size a"):
      train.run(config, RunDirectory(tmp_path / "of_another_size"))

  def test_it_may_be_thawed_in_a_run_that_goes_on(self, source, config, directory, capsys):
    config.init_from, config.freeze, config.duration = str(source), "trunk", "4 steps"
    train.run(config, directory)
    config.freeze, config.duration = "", "8 steps"
    train.run(config, directory)
    assert "config.freeze" in capsys.readouterr().err
    mesh = parallel.make_mesh()
    at_4, at_8 = (model_directory.load(directory.path, mesh, step) for step in (4, 8))
    kernels = [each.variables["params"]["conv"]["conv"]["kernel"] for each in (at_4, at_8)]
    assert np.abs(np.subtract(*kernels)).max() > 1e-5

  def test_an_interrupted_run_needs_its_source_no_more(
    self, source, config, directory, monkeypatch
  ):
    config.init_from = str(source)
    with monkeypatch.context() as patch:
      interrupt_at(patch, 3)
      with pytest.raises(Interrupted):
        train.run(config, directory)
    source.rename(source.with_name("gone"))
    assert train.run(config, directory)["steps"] == 12
    description = model_directory.load_description(directory.path)
    assert description.preprocessing.normalization == self.CAFFE

  def test_what_does_not_fit_is_refused_before_anything_is_written(self, source, config, directory):
    config.init_from = str(source)
    config.batch_norm.enabled = False
    with pytest.raises(UserError, match=r"The weights in config.init_from=.* do not fit"):
      train.run(config, directory)
    assert not directory.path.exists()

  def test_no_such_source(self, config, directory, tmp_path):
    config.init_from = str(tmp_path / "nothing")
    with pytest.raises(UserError, match="nothing' is not the directory of a run"):
      train.run(config, directory)
    assert not directory.path.exists()


class TestDivergence:
  """What is not finite is never saved, and never trained on in silence."""

  def expect(self, config, directory, message):
    with pytest.raises(loop.DivergenceError, match=message) as error:
      train.run(config, directory)
    assert f"step {error.value.step}" in str(error.value)
    assert not (directory.path / "summary.json").exists()

  def test_absurd_learning_rate(self, config, directory):
    config.optimizer.learning_rate = 1e38
    self.expect(config, directory, r"at step \d+\. Nothing was saved before; lower config\.optim")
    assert saved_steps(directory) == []

  def test_parameters_overflow_where_loss_and_gradient_are_finite(self, config, directory):
    config.optimizer.learning_rate = 1e38
    config.optimizer.l2 = 1000.0
    config.checkpoint_every = "1 steps"
    self.expect(config, directory, r"The parameters are not finite after step 1\. Nothing was")
    assert saved_steps(directory) == []

  @pytest.mark.parametrize(("every", "newest"), [("4 steps", 4), ("1 steps", 7)])
  def test_keeps_the_last_good_checkpoint(self, config, directory, every, newest):
    config.checkpoint_every = every
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.factor = 1e38
    config.optimizer.schedule.boundaries = ("6 steps",)
    self.expect(config, directory, f"The loss is nan at step 8. The checkpoint of step {newest} is")
    assert saved_steps(directory)[-1] == newest
    assert steps(directory, "train") == list(range(1, 8))


def test_nothing_is_left_of_a_start_that_is_refused(config, directory):
  config.data.augmentation.crop = "corner"
  with pytest.raises(UserError, match="corner"):
    train.run(config, directory)
  assert not directory.path.exists()


def test_without_compiling_nothing_begins(config, directory):
  with jax.disable_jit(), pytest.raises(UserError, match="JAX_DISABLE_JIT is set"):
    train.run(config, directory)
  assert not directory.path.exists()


def test_images_that_are_too_small_are_refused_before_anything_is_written(
  config, directory, monkeypatch
):
  monkeypatch.undo()  # the tiny network takes any
  config.model.update(name="inception_v4", dialect="paper")
  with pytest.raises(UserError, match="too small for InceptionV4"):
    train.run(config, directory)
  assert not directory.path.exists()


# Orbax leaves a coroutine behind that was never awaited when a file cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_resumes_from_the_checkpoint_before_a_damaged_one(config, directory, capsys):
  expected = train.run(config, directory)
  for path in (directory.checkpoints / "12" / "training").rglob("manifest.ocdbt"):
    path.write_bytes(b"")
  assert train.run(config, directory)["eval"] == expected["eval"]
  printed = capsys.readouterr()
  assert "resuming after step 8\n" in printed.out
  assert "warning: checkpoint 12 is damaged and left out" in printed.err
  assert saved_steps(directory) == [8, 12]
