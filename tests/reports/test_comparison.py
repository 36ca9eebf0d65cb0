"""Several runs side by side."""

import past_runs
import pytest

from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.config.files import flat_keys
from speedpaper_jax.errors import UserError
from speedpaper_jax.reports import comparison
from speedpaper_jax.reports.page import Figure
from speedpaper_jax.storage.run_directory import RunDirectory


@pytest.fixture
def drawings(tmp_path):
  return RunDirectory(tmp_path / "drawings")


def present(drawings, *directories):
  page = comparison.present(directories, drawings)
  return page, {section.title: section for section in page.sections}


def figures(section):
  return [part.name for part in section.parts if isinstance(part, Figure)]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
  """The page, and its sections by title."""
  path = tmp_path_factory.mktemp("runs")
  slow = past_runs.write(path / "slow")
  fast = past_runs.write(path / "fast", top1=0.95, optimizer__learning_rate=0.045)
  return present(RunDirectory(path / "drawings"), slow, fast)


class TestTwoRuns:
  def test_title_and_result(self, two_runs):
    page, _ = two_runs
    assert page.title == "Comparison of 2 runs"
    assert page.result == "fast has the highest top-1 accuracy on 1,797 held-out images, 95.00 %."

  def test_results(self, two_runs):
    _, sections = two_runs
    (table,) = sections["Results"].parts
    assert table.rows == [
      ["slow", "train", "6", "2.7 min", "90.00 %", "100.00 %", "0.3333", "1,797"],
      ["fast", "train", "6", "2.7 min", "95.00 %", "100.00 %", "0.3333", "1,797"],
    ]

  def test_curves(self, two_runs):
    _, sections = two_runs
    assert figures(sections["Learning curves"]) == ["top1", "loss"]

  def test_only_fields_that_differ(self, two_runs):
    _, sections = two_runs
    (table,) = sections["Configs"].parts
    assert table.columns == ("field", "slow", "fast")
    assert table.rows == [("optimizer.learning_rate", "0.01", "0.045")]
    others = len(list(flat_keys(train_config()))) - 1
    assert f"the other {others} are the same" in table.caption

  def test_commands(self, two_runs):
    _, sections = two_runs
    command = f"`{past_runs.PROVENANCE['command']}`"
    assert sections["How to repeat them"].paragraphs == ["slow:", command, "fast:", command]


def test_equal_runs(tmp_path, drawings):
  runs = [past_runs.write(tmp_path / name) for name in ("one", "two")]
  page, sections = present(drawings, *runs)
  assert page.result.startswith("one and two have the highest top-1 accuracy")
  assert sections["Configs"].paragraphs == ["The configs are the same in every field."]


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path, drawings):
  runs = [past_runs.write(tmp_path / parent / "run") for parent in ("one", "two")]
  _, sections = present(drawings, *runs)
  (table,) = sections["Results"].parts
  assert [row[0] for row in table.rows] == [str(tmp_path / "one/run"), str(tmp_path / "two/run")]


@pytest.mark.parametrize(
  ("field", "values"), [("data__name", ("digits", "mnist")), ("data__split_seed", (0, 1))]
)
def test_other_images_are_not_ranked(tmp_path, drawings, field, values):
  runs = [past_runs.write(tmp_path / str(value), **{field: value}) for value in values]
  page, _ = present(drawings, *runs)
  assert page.result.startswith("The runs have not been evaluated on the same images;")


def test_other_experiments_stand_side_by_side(tmp_path, drawings):
  """What one of them does not have is left open."""
  other = past_runs.write(tmp_path / "other", experiment="bn_init")
  other.write("summary.json", {"experiment": "bn_init", "seconds": 3.0})
  (other.path / "metrics.jsonl").unlink()
  page, sections = present(drawings, past_runs.write(tmp_path / "run"), other)
  assert page.result.startswith("Not every run has one accuracy as its result;")
  (table,) = sections["Results"].parts
  assert table.rows[1] == ["other", "bn_init", "–", "3 s", "–", "–", "–", "–"]
  (table,) = sections["Configs"].parts
  assert ("experiment", "train", "bn_init") in table.rows


def test_no_curves_at_all(tmp_path, drawings):
  runs = [past_runs.write(tmp_path / name) for name in ("one", "two")]
  for run in runs:
    (run.path / "metrics.jsonl").unlink()
  _, sections = present(drawings, *runs)
  assert "Learning curves" not in sections


def test_a_run_that_has_not_ended(tmp_path, drawings):
  interrupted = past_runs.write(tmp_path / "interrupted")
  past_runs.interrupt(interrupted)
  begun = past_runs.write(tmp_path / "begun")
  past_runs.interrupt(begun)
  (begun.path / "metrics.jsonl").unlink()
  page, sections = present(drawings, past_runs.write(tmp_path / "run"), interrupted, begun)
  assert page.result == "Not all runs have ended: interrupted, begun."
  (table,) = sections["Results"].parts
  assert table.rows[1][0] == "interrupted (not ended)"
  assert table.rows[1][2:] == ["6", "1.0 min", "90.00 %", "100.00 %", "0.3333", "1,797"]
  assert table.rows[2][2:] == ["–"] * 6


def test_a_run_that_diverged_is_not_ranked(tmp_path, drawings):
  runs = [past_runs.write(tmp_path / name, top1=0.5) for name in ("one", "two")]
  past_runs.let_diverge(runs[1])
  page, sections = present(drawings, *runs)
  assert page.result.startswith("one has the highest top-1 accuracy on 1,797 held-out images")
  (table,) = sections["Results"].parts
  assert table.rows[1] == ["two (diverged)", "train", "5", "2.7 min", "–", "–", "–", "–"]


def test_runs_that_have_all_diverged(tmp_path, drawings):
  runs = [past_runs.write(tmp_path / name) for name in ("one", "two")]
  for run in runs:
    past_runs.let_diverge(run)
  page, _ = present(drawings, *runs)
  assert page.result == "All runs have diverged."


def test_old_summaries(tmp_path, drawings):
  runs = [past_runs.write(tmp_path / name) for name in ("one", "two")]
  past_runs.make_old(runs[0])
  _, sections = present(drawings, *runs)
  assert sections["How to repeat them"].paragraphs[0] == "two:"
  past_runs.make_old(runs[1])
  assert "How to repeat them" not in present(drawings, *runs)[1]


def test_twenty_runs_with_names_that_matplotlib_would_read_otherwise(tmp_path, drawings):
  names = ["_hidden", "$x", "$\\frac$", *(f"run {number}" for number in range(17))]
  present(drawings, *(past_runs.write(tmp_path / name) for name in names))
  assert sorted(path.name for path in drawings.plots.iterdir()) == [
    "loss.dark.png",
    "loss.png",
    "top1.dark.png",
    "top1.png",
  ]


@pytest.mark.parametrize("other", ["run", "run/../run"])
def test_a_run_beside_itself(tmp_path, drawings, other):
  run = past_runs.write(tmp_path / "run")
  with pytest.raises(UserError, match=r"run' is named twice; name each run once\."):
    present(drawings, run, RunDirectory(tmp_path / other))


def test_no_run(tmp_path, drawings):
  with pytest.raises(UserError, match=r"'.*nothing' is not the directory of a run: it has no conf"):
    present(drawings, past_runs.write(tmp_path / "run"), RunDirectory(tmp_path / "nothing"))
