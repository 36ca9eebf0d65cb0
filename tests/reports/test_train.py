"""The report of a training run."""

import dataclasses
from types import MappingProxyType

import numpy as np
import past_runs
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import evaluations, train
from speedpaper_jax.reports.expected import ExpectedOfRun
from speedpaper_jax.reports.page import Table
from speedpaper_jax.reports.rendering import Record
from speedpaper_jax.storage import sessions
from speedpaper_jax.storage.sessions import Session


def tables(page):
  return [part for section in page.sections for part in section.parts if isinstance(part, Table)]


def paragraphs(page):
  return " ".join(text for section in page.sections for text in section.paragraphs)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return past_runs.write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(directory):
  return train.present(directory)


class TestPage:
  def test_title_and_result(self, page):
    assert page.title == "BN-Inception on digits"
    assert page.result == (
      "Top-1 accuracy on 1,797 held-out images is 90.00 %, top-5 100.00 %, after 6 steps in "
      "2.7 min."
    )

  def test_figures_are_drawn(self, page, directory):
    assert sorted(path.name for path in directory.plots.iterdir()) == [
      "loss.dark.png",
      "loss.png",
      "top1.dark.png",
      "top1.png",
    ]

  def test_tables(self, page):
    totals, evaluations = tables(page)
    assert dict(totals.rows) == {
      "top-1 accuracy": "90.00 %",
      "top-5 accuracy": "100.00 %",
      "cross-entropy": "0.3333 nats",
      "held-out images": "1,797",
      "steps": "6",
      "time, evaluations and checkpoints included": "2.7 min",
      "speed of training, median": "104 images/s",
    }
    assert evaluations.rows[0] == ("2", "30.00", "100.00", "1.0000")
    assert [row[0] for row in evaluations.rows] == ["2", "4", "6"]

  def test_settings(self, page):
    text = paragraphs(page)
    assert "The papers have no numbers on digits." in text
    assert "`bn_inception` as in `paper`, with images of 32×32 pixels" in text
    assert "It started from random weights and was trained for 15 epochs" in text
    assert "There are 2 classes: nought, one." in text


def test_ten_crops(tmp_path):
  directory = past_runs.write(tmp_path)
  summary = directory.read("summary.json")
  ten_crops = {"top1": 0.9125, "top5": 1.0, "loss": 0.25, "count": 1797}
  directory.write("summary.json", {**summary, "ten_crops": ten_crops})
  totals, _ = tables(train.present(directory))
  assert totals.rows[4:6] == [
    ("top-1 accuracy, ten crops", "91.25 %"),
    ("cross-entropy, ten crops", "0.2500 nats"),
  ]
  directory.write("summary.json", {**summary, "ten_crops": {**ten_crops, "top1": 91.25}})
  with pytest.raises(UserError, match=r"summary\.json is .*: ten_crops\.top1 is 91\.25; it must"):
    train.present(directory)


class TestSessions:
  """Two, of which the second has larger batches: 20 steps of 8, then 20 of 16, of 160 images."""

  COMMON = MappingProxyType({"epoch_size": 160, "devices": "1 × cpu"})

  def write(self, directory, *content):
    directory.write("sessions.json", {"sessions": list(map(dataclasses.asdict, content))})

  @pytest.fixture
  def directory(self, tmp_path):
    directory = past_runs.write(tmp_path)
    directory.write("summary.json", {**directory.read("summary.json"), "steps": 40})
    self.write(
      directory,
      Session("first", duration="1 epochs", batch_size=8, last_step=20, **self.COMMON),
      Session(
        "second",
        duration="3 epochs",
        batch_size=16,
        first_step=20,
        first_examples=160,
        last_step=40,
        changes={"batch_size": [8, 16], "duration": ["1 epochs", "3 epochs"]},
        learning_rates=[0.01, 0.02],
        **self.COMMON,
      ),
      Session(
        "third", duration="1 epochs", batch_size=16, first_step=40, last_step=40, **self.COMMON
      ),
    )
    return directory

  def test_are_told_in_order(self, directory):
    page = train.present(directory)
    totals, _, told = tables(page)
    assert ("epochs", "3.00") in totals.rows
    assert told.rows == [
      ("1 to 20", "1.00", "1 epochs", "1 × cpu", "–"),
      (
        "21 to 40",
        "3.00",
        "3 epochs",
        "1 × cpu",
        "batch_size: 8 → 16; duration: 1 epochs → 3 epochs; the learning rate at this step: 0.01 → "
        "0.02",
      ),
    ]

  def test_commands_are_those_that_trained(self, directory):
    assert Record.of(directory).commands == ["first", "second"]

  def test_what_was_before_the_first_is_not_known(self, directory):
    self.write(directory, *sessions.read(directory)[1:])
    assert tables(train.present(directory))[-1].rows[0] == (
      "1 to 20",
      "1.00",
      "not known",
      "–",
      "–",
    )

  def test_one_alone_has_no_table(self, directory):
    self.write(directory, sessions.read(directory)[0])
    assert len(tables(train.present(directory))) == 2

  def test_of_an_earlier_version_the_summary_has_the_command(self, tmp_path):
    directory = past_runs.write(tmp_path)
    assert Record.of(directory).commands == [past_runs.PROVENANCE["command"]]

  def test_damage_is_told(self, directory):
    directory.write("sessions.json", {"sessions": [{"first_step": -1}]})
    with pytest.raises(UserError, match=r"sessions\.json is damaged: sessions\[0\]"):
      train.present(directory)


class TestData:
  @pytest.fixture
  def directory(self, tmp_path):
    return past_runs.write(tmp_path)

  def data(self, *changes):
    train = {"split": "train", "examples": 9, "files": "x"}
    return {"train": train, "eval": {**train, "split": "test", "examples": 1}, "changes": changes}

  def test_images_that_were_others_are_told(self, directory):
    earlier = {"split": "train[:80%]", "examples": 7, "files": "y"}
    directory.write("data.json", self.data({"until_step": 4, "train": earlier}))
    told = tables(train.present(directory))[-1]
    assert told.rows == [("4", "training images", "7", "train[:80%]")]
    assert "at its end it had 9 training images and 1 held-out ones" in told.caption

  def test_the_same_from_beginning_to_end_have_no_table(self, directory):
    before = tables(train.present(directory))
    directory.write("data.json", self.data())
    assert tables(train.present(directory)) == before

  def test_damage_is_told(self, directory):
    directory.write("data.json", self.data({"until_step": -1}))
    with pytest.raises(UserError, match=r"data\.json is damaged.* changes\[0\]\.until_step is -1"):
      train.present(directory)


SESSION = Session("first", duration="15 epochs", batch_size=8, epoch_size=8, last_step=6)


def write_sessions(directory, *content):
  directory.write("sessions.json", {"sessions": list(map(dataclasses.asdict, content))})


class TestThatHasNotEnded:
  """Three evaluations, each an epoch after the other, of fifteen."""

  @pytest.fixture
  def directory(self, tmp_path):
    directory = past_runs.write(tmp_path)
    past_runs.interrupt(directory)
    return directory

  def test_it_is_marked(self, directory):
    page = train.present(directory)
    assert page.title == "BN-Inception on digits, not ended"
    assert page.result == (
      "This run has not ended: it is to train for 15 epochs, and has come to step 6. Top-1 "
      "accuracy on 1,797 held-out images was 90.00 %, top-5 100.00 %, after step 6."
    )
    assert page.sections[0].title == "So far"
    totals, evaluations = tables(page)
    assert totals.caption == "After the last step that is recorded so far."
    assert ("steps", "6") in totals.rows
    assert ("time, evaluations and checkpoints included", "1.0 min") in totals.rows
    assert len(evaluations.rows) == 3

  def test_a_session_that_goes_on_counts_as_far_as_its_lines(self, directory):
    """Its record is from its last checkpoint, of which there is none yet."""
    write_sessions(directory, dataclasses.replace(SESSION, last_step=0))
    page = train.present(directory)
    assert "has come to step 6, epoch 6.00." in page.result
    assert ("epochs", "6.00") in tables(page)[0].rows

  def test_how_its_last_session_ended_is_told(self, directory):
    write_sessions(directory, dataclasses.replace(SESSION, end="The loss is nan at step 7."))
    assert "Its last session ended: The loss is nan at step 7." in paragraphs(
      train.present(directory)
    )

  def test_before_the_first_evaluation(self, directory):
    (directory.path / "metrics.jsonl").unlink()
    directory.append_metrics({"step": 2, "split": "train", "loss": 1, "top1": 0.5, "top5": 1})
    page = train.present(directory)
    assert page.result.endswith("has come to step 2. There is no evaluation yet.")

  def test_before_the_first_line(self, directory):
    (directory.path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"The run in '.*' has recorded no step yet; its first"):
      train.present(directory)


class TestExpected:
  """GluonCV's Inception-v3 has 15.93 % after epoch 2, 34.88 % after 4 and 43.74 % after 6."""

  CURVE = "gluoncv/inception_v3"

  @pytest.fixture
  def directory(self, tmp_path):
    directory = past_runs.write(tmp_path, expected_curve=self.CURVE)
    write_sessions(directory, SESSION)
    return directory

  def test_each_evaluation_has_it_beside(self, directory):
    evaluations = tables(train.present(directory))[-1]
    assert evaluations.columns[:5] == [
      *("step", "epoch", "top-1 [%]", "expected [%]", "difference [%]")
    ]
    assert [row[:5] for row in evaluations.rows] == [
      ("2", "2.00", "30.00", "15.93", "+14.07"),
      ("4", "4.00", "60.00", "34.88", "+25.12"),
      ("6", "6.00", "90.00", "43.74", "+46.26"),
    ]

  def test_the_newest_is_told(self, directory):
    assert (
      "At epoch 6.00 top-1 accuracy is 90.00 %, and 43.74 % is expected by GluonCV's log of its "
      "training with mixup: this run is 46.26 % above it."
    ) in paragraphs(train.present(directory))

  def test_below_it(self, tmp_path):
    directory = past_runs.write(tmp_path, expected_curve=self.CURVE, top1=0.4)
    write_sessions(directory, SESSION)
    assert "this run is 3.74 % below it." in paragraphs(train.present(directory))

  def test_outside_of_the_curve(self, tmp_path):
    directory = past_runs.write(tmp_path, expected_curve="paper/inception_v4")
    write_sessions(directory, SESSION)
    page = train.present(directory)
    assert "which goes from epoch 20 to 160; there is no evaluation in these." in paragraphs(page)
    assert [row[3:5] for row in tables(page)[-1].rows] == [("–", "–")] * 3

  def test_where_epochs_are_not_known_it_is_left_out(self, directory):
    (directory.path / "sessions.json").unlink()
    text = paragraphs(train.present(directory))
    assert f"The curve `{self.CURVE}` is left out: in which epoch each step was" in text

  def test_the_line_is_as_long_as_the_run_and_a_little_more(self):
    expected = ExpectedOfRun.of(self.CURVE, [SESSION])
    steps, accuracies = expected.line(6)
    np.testing.assert_allclose(steps, range(1, 8))
    assert accuracies[1] == pytest.approx(0.1593, abs=1e-4)

  def test_before_the_curve_its_beginning_is_shown(self):
    steps, _ = ExpectedOfRun.of("paper/inception_v4", [SESSION]).line(6)
    assert steps[0] > 15
    assert steps[-1] == pytest.approx(1.3 * steps[0], rel=0.05)

  def test_steps_of_several_sessions(self):
    """One epoch in steps of 8, then steps of 16: the second and third have 10 each."""
    first = Session(batch_size=8, epoch_size=160, last_step=20)
    second = Session(batch_size=16, epoch_size=160, first_step=20, first_examples=160, last_step=40)
    expected = ExpectedOfRun.of(self.CURVE, [first, second])
    steps, _ = expected.line(40)
    np.testing.assert_allclose(steps, [20, 30, 40])
    assert [expected.epoch(step) for step in (10, 20, 30, 40)] == [0.5, 1, 2, 3]

  def test_an_unknown_one_is_told(self, directory):
    config = directory.read("config.json")
    directory.write("config.json", {**config, "expected_curve": "gluoncv/inception_v4"})
    with pytest.raises(UserError, match=r"expected_curve='gluoncv/inception_v4' is unknown\. Did"):
      train.present(directory)


def test_the_learning_rate_is_drawn(tmp_path):
  directory = past_runs.write(tmp_path)
  entry = {"step": 7, "split": "train", "loss": 1.0, "top1": 0.5, "top5": 1.0}
  directory.append_metrics({**entry, "learning_rate": 0.01})
  page = train.present(directory)
  assert [part.name for part in page.sections[1].parts] == ["top1", "loss", "learning_rate"]
  assert (directory.plots / "learning_rate.dark.png").exists()


class TestOtherRuns:
  def test_on_imagenet_the_papers_numbers_stand_beside(self, tmp_path):
    page = train.present(past_runs.write(tmp_path, data__name="imagenet2012", top1=0.7312))
    _, beside, _ = tables(page)
    assert beside.rows[0] == ("this run", "73.12", "100.00", "")
    assert ("BN-x30", "74.8", "92.18", "1502.03167, Figure 3, and Figure 4") in beside.rows
    assert "no numbers" not in paragraphs(page)

  def test_other_networks_on_imagenet(self, tmp_path):
    changes = {"data__name": "imagenet2012", "model__name": "inception_v4"}
    page = train.present(past_runs.write(tmp_path, **changes))
    assert page.title == "Inception-v4 on imagenet2012"
    assert tables(page)[1].rows[1] == ("Inception-v4", "80.0", "95.0", "1602.07261, Table 2")

  def test_many_classes_are_not_listed(self, tmp_path):
    names = [f"class {number}" for number in range(1000)]
    text = paragraphs(train.present(past_runs.write(tmp_path, class_names=names)))
    assert "There are 1,000 classes." in text
    assert "class 7" not in text

  def test_a_seed_of_the_split_is_told(self, tmp_path):
    run = past_runs.write(tmp_path, data__name="folder", data__split_seed=3)
    assert "of the split `test`, drawn with `split_seed=3`." in paragraphs(train.present(run))

  def test_fine_tuning(self, tmp_path):
    text = paragraphs(train.present(past_runs.write(tmp_path, init_from="runs/a")))
    assert "It started from the weights in `runs/a`" in text

  def test_of_many_evaluations_some_are_listed(self, tmp_path):
    directory = past_runs.write(tmp_path)
    for step in range(7, 100):
      metrics = {"loss": 1.0, "top1": 0.5, "top5": 1.0}
      directory.append_metrics({"step": step, "split": "eval", **metrics})
    evaluations = tables(train.present(directory))[-1]
    assert evaluations.caption == "Some of the evaluations on held-out images."
    assert len(evaluations.rows) == 20
    assert (evaluations.rows[0][0], evaluations.rows[-1][0]) == ("2", "99")

  @pytest.mark.parametrize("data", ["digits", "imagenet2012"])
  def test_that_diverged(self, tmp_path, data):
    directory = past_runs.write(tmp_path, data__name=data)
    past_runs.let_diverge(directory)
    page = train.present(directory)
    assert page.result.startswith("Training diverged: at step 5 the loss, the gradient or the par")
    assert next(iter(tables(page)[0].rows)) == ("steps", "5")

  def test_no_metrics(self, tmp_path):
    directory = past_runs.write(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    totals, evaluations = tables(train.present(directory))
    assert "speed of training, median" not in dict(totals.rows)
    assert not evaluations.rows
    assert (tmp_path / "plots" / "loss.png").exists()

  def test_no_model(self, tmp_path):
    directory = past_runs.write(tmp_path)
    (tmp_path / "model.json").unlink()
    with pytest.raises(UserError, match=r"it has no model\.json"):
      train.present(directory)


@pytest.mark.parametrize(
  ("length", "count", "expected"), [(3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8])]
)
def test_evenly_spaced(length, count, expected):
  assert evaluations.evenly_spaced(range(length), count) == expected
