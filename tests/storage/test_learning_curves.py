"""What is read off the curve of a run's held-out accuracy."""

import json

import pytest

from speedpaper_jax.storage import learning_curves
from speedpaper_jax.storage.learning_curves import LearningCurve
from speedpaper_jax.storage.run_directory import RunDirectory


def curve(top1, steps=None, diverged_at=None):
  steps = steps or [10 * number for number in range(1, len(top1) + 1)]
  return LearningCurve(steps, top1, [1.0] * len(top1), train_top1=None, diverged_at=diverged_at)


class TestStepsTo:
  @pytest.mark.parametrize(
    ("target", "steps"),
    [
      (0.2, 10),  # an evaluation
      (0.6, 20),
      (0.4, 15),  # between two
      (0.5, 17.5),
      (0.1, 5),  # before the first, from zero on
      (0.0, 0),
    ],
  )
  def test_the_curve_is_straight_between_evaluations(self, target, steps):
    assert curve([0.2, 0.6, 0.7]).steps_to(target) == pytest.approx(steps)

  def test_evaluations_need_not_be_equally_far_apart(self):
    assert curve([0.2, 0.6], steps=[10, 110]).steps_to(0.3) == pytest.approx(35)

  def test_the_first_time_counts(self):
    assert curve([0.2, 0.6, 0.3, 0.9]).steps_to(0.5) == pytest.approx(17.5)
    assert curve([0.5, 0.1, 0.5]).steps_to(0.5) == 10

  def test_never(self):
    assert curve([0.2, 0.6, 0.7]).steps_to(0.71) is None
    assert curve([]).steps_to(0.1) is None

  def test_a_curve_that_stays_where_it_is(self):
    assert curve([0.3, 0.3, 0.3]).steps_to(0.3) == 10
    assert curve([0.3, 0.3, 0.3]).steps_to(0.31) is None
    assert curve([0.0, 0.0]).steps_to(0.0) == 0


class TestAccuracies:
  def test_best_and_final(self):
    found = curve([0.2, 0.9, 0.7])
    assert (found.best_top1, found.final_top1) == (0.9, 0.7)

  def test_of_a_run_that_diverged(self):
    found = curve([0.2, 0.9], diverged_at=25)
    assert (found.best_top1, found.final_top1) == (0.9, 0.0)

  def test_without_evaluations(self):
    found = curve([], diverged_at=3)
    assert (found.best_top1, found.final_top1) == (0.0, 0.0)


class TestRead:
  def write(self, path, summary):
    directory = RunDirectory(path / "runs" / "one")
    directory.path.mkdir(parents=True)
    for step, top1 in ((5, 0.25), (10, 0.5)):
      train = {"step": step, "split": "train", "loss": 9.0, "top1": top1 / 2}
      evaluation = {"step": step, "split": "eval", "loss": 10.0 / step, "top1": top1}
      directory.append_metrics(train)
      directory.append_metrics(evaluation)
    directory.write("summary.json", summary)
    return learning_curves.read(RunDirectory(path), "one")

  def test_evaluations(self, tmp_path):
    assert self.write(tmp_path, {}) == LearningCurve(
      steps=[5, 10], top1=[0.25, 0.5], loss=[2.0, 1.0], train_top1=None, diverged_at=None
    )

  def test_training_images(self, tmp_path):
    assert self.write(tmp_path, {"train": {"top1": 0.75}}).train_top1 == 0.75

  def test_divergence(self, tmp_path):
    assert self.write(tmp_path, {"diverged_at": 12}).diverged_at == 12

  def test_a_run_without_metrics(self, tmp_path):
    path = tmp_path / "runs" / "one"
    path.mkdir(parents=True)
    (path / "summary.json").write_text(json.dumps({"diverged_at": 1}))
    assert learning_curves.read(RunDirectory(tmp_path), "one") == LearningCurve([], [], [], None, 1)


@pytest.mark.parametrize(
  ("network", "value", "name"),
  [("with", 0.1, "with-0_1"), ("without", 2e-4, "without-0_0002"), ("with", 256, "with-256")],
)
def test_names_of_arms_have_no_dots(network, value, name):
  assert learning_curves.arm_name(network, value) == name


def test_names_and_directories_of_runs(tmp_path):
  name = learning_curves.run_name("bn_x5", 1 / 3, 2)
  assert name == "bn_x5-rate_x0.333-seed_2"
  directory = learning_curves.run_directory(RunDirectory(tmp_path), name)
  assert directory.path == tmp_path / "runs" / name
