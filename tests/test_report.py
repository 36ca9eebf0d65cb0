"""`python -m speedpaper_jax.report`."""

import past_runs
import pytest
import reading_html

from speedpaper_jax import report
from speedpaper_jax.errors import UserError


def run(*arguments):
  report.main(report.parse(["report", *map(str, arguments)]))


class TestOneRun:
  def test_is_written_into_its_directory(self, tmp_path, capsys):
    past_runs.write(tmp_path)
    run(tmp_path)
    assert capsys.readouterr().out == (
      "Top-1 accuracy on 1,797 held-out images is 90.00 %, top-5 100.00 %, after 6 steps in 2.7 "
      f"min.\n{tmp_path / 'report.html'}\n"
    )
    page = reading_html.read(tmp_path / "report.html")
    assert len(page.all("img")) == len(page.all("source")) == 2
    words = page.words()
    for text in ("2026-11-21 18:19:47 UTC", "a processor", "jax 0.10.2", "nought", "90.00 %"):
      assert text in words
    assert past_runs.PROVENANCE["command"] in page.text["code"]
    assert {"optimizer.learning_rate", "0.01"} <= set(page.text["code"])

  def test_of_an_earlier_version(self, tmp_path):
    past_runs.make_old(past_runs.write(tmp_path))
    run(tmp_path)
    page = reading_html.read(tmp_path / "report.html")
    assert not page.all("pre")
    assert "90.00" in page.text["p"][0]

  def test_is_written_anew(self, tmp_path):
    directory = past_runs.write(tmp_path)
    run(tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    run(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first
    directory.write("summary.json", {**directory.read("summary.json"), "steps": 7})
    run(tmp_path)
    assert b"after 7 steps" in (tmp_path / "report.html").read_bytes()

  def test_classes_of_any_name(self, tmp_path):
    past_runs.write(tmp_path, class_names=["<script>alert(1)</script>", "a `b` & c"])
    run(tmp_path)
    assert "<script>alert(1)</script>" in reading_html.read(tmp_path / "report.html").words()

  def test_that_has_not_ended(self, tmp_path, capsys):
    past_runs.interrupt(past_runs.write(tmp_path))
    run(tmp_path)
    assert capsys.readouterr().out.startswith("This run has not ended: it is to train for 15 epoch")
    page = reading_html.read(tmp_path / "report.html")
    assert page.text["h1"] == ["BN-Inception on digits, not ended"]
    assert not (tmp_path / "summary.json").exists()

  def test_another_experiment_that_has_not_ended(self, tmp_path):
    past_runs.interrupt(past_runs.write(tmp_path, experiment="bn_fc"))
    with pytest.raises(UserError, match=r"The run in '.*' has not ended; end it with the command"):
      run(tmp_path)
    assert not (tmp_path / "report.html").exists()

  def test_that_is_none(self, tmp_path):
    with pytest.raises(UserError, match=r"'.*' is not the directory of a run"):
      run(tmp_path)


class TestSeveralRuns:
  @pytest.fixture
  def runs(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [past_runs.write(tmp_path / name, seed=seed).path for seed, name in enumerate("ab")]

  def test_are_compared_in_the_current_directory(self, runs, tmp_path, capsys):
    run(*runs)
    page = reading_html.read(tmp_path / "comparison.html")
    assert page.text["h1"] == ["Comparison of 2 runs"]
    assert "seed" in page.text["th"]
    assert len(page.all("img")) == 2
    assert capsys.readouterr().out.endswith("\ncomparison.html\n")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "comparison.html"}
    assert not (tmp_path / "a" / "report.html").exists()

  def test_out(self, runs, tmp_path):
    run(*runs, f"--out={tmp_path / 'page.html'}")
    reading_html.read(tmp_path / "page.html")

  @pytest.mark.parametrize("name", ["missing/page.html", "a"])
  def test_out_that_cannot_be_written(self, runs, tmp_path, name):
    with pytest.raises(UserError, match=r"there is no directory|is a directory"):
      run(*runs, f"--out={tmp_path / name}")


def test_flags_stand_anywhere():
  options = report.parse(["report", "a", "--out=c.html", "b"])
  assert (list(map(str, options.directories)), str(options.out)) == (["a", "b"], "c.html")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "the following arguments are required: DIR; see --help"),
    (["a", "--out=b.html"], r"--out is of several runs; the report of one is report\.html in its"),
    (["a", "--html"], "There is no flag '--html'"),
    (["a", "--otu=b.html"], r"There is no flag '--otu'\. Did you mean '--out'\?"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError, match=message):
    run(*arguments)
