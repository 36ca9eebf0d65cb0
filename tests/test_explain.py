"""`python -m speedpaper_jax.explain`."""

import itertools
import sys
import unicodedata

import pytest
from commands import finish, start
from packages import require

from speedpaper_jax import explain
from speedpaper_jax.errors import UserError
from speedpaper_jax.explanations import batch_norm


def run(*arguments):
  explain.main(explain.parse(["explain", *map(str, arguments)]))


@pytest.fixture(scope="module")
def printed(scratch):
  status, output, errors = finish(start(scratch, "-m", "speedpaper_jax.explain", "bn"))
  assert status == 0, errors
  assert not errors
  return output


class TestOutput:
  def test_has_five_parts_and_ends_with_the_number_of_checks(self, printed):
    lines = printed.splitlines()
    assert lines[0].endswith("mini-batches of m = 4, ε = 0.001")
    titles = [line for line, below in itertools.pairwise(lines) if below[:1] == "─"]
    assert [title[:3] for title in titles] == ["1  ", "2  ", "3  ", "4  ", "5  "]
    checks = sum(line.endswith("  ok") for line in lines)
    assert lines[-1] == f"All {checks} checks are ok."

  @pytest.mark.parametrize(
    "formula",
    [
      "σ²_B = 1/m Σ_i (x_i - μ_B)²",
      "y_i = γ x̂_i + β",
      "(1) ∂ℓ/∂x̂_i",
      "(2) ∂ℓ/∂σ²_B",
      "(3) ∂ℓ/∂μ_B",
      "(4) ∂ℓ/∂x_i",
      "(5) ∂ℓ/∂γ",
      "(6) ∂ℓ/∂β",
      "Var[x] = m/(m-1) · E_B[σ²_B]",
    ],
  )
  def test_has_the_papers_formulas(self, printed, formula):
    assert formula in printed

  def test_fits_into_100_columns(self, printed):
    for line in printed.splitlines():
      assert sum(not unicodedata.combining(character) for character in line) <= 100

  def test_is_beside_pytorch_where_that_is_installed(self, printed):
    require()
    assert printed.count("beside PyTorch ") == 4  # y and three gradients
    assert "PyTorch is not installed" not in printed


def test_without_pytorch_with_the_smallest_batch_and_a_figure(monkeypatch, capsys, tmp_path):
  monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
  run("bn", "--examples=2", "--epsilon=0", "--seed=1", f"--plot={tmp_path}/bn.png")
  assert (tmp_path / "bn.png").exists()
  output = capsys.readouterr().out
  assert "PyTorch is not installed" in output
  assert "m = 2, ε = 0\n" in output
  assert "checks are ok." in output


def test_a_difference_beyond_its_limit_is_marked_and_fails(monkeypatch, capsys):
  correct = batch_norm.whiten
  monkeypatch.setattr(batch_norm, "whiten", lambda x: 1.1 * correct(x))
  with pytest.raises(SystemExit, match="1"):
    run("bn")
  lines = capsys.readouterr().out.splitlines()
  (marked,) = (line for line in lines if "BEYOND" in line)
  assert marked.split("  ")[-2:] == ["2.1e-01", "BEYOND 1e-12"]
  assert lines[-1].startswith("1 of ")
  assert lines[-1].endswith(" checks failed.")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["nb"], r"There is no explanation of 'nb'\. Did you mean 'bn'\? Valid: 'bn'\."),
    (["whitening"], r"There is no explanation of 'whitening'\. Valid: 'bn'\."),
    ([], "the following arguments are required: TOPIC; see --help"),
    (["bn", "bn"], "'bn' is one argument too many; see --help"),
    (["bn", "--examples=1"], "--examples=1 is too few: a single example is its own mean, so"),
    (["bn", "--examples=21"], "--examples=21 are too many to read; take at most 20"),
    (["bn", "--examples=4.5"], "argument --examples: invalid int value: '4.5'"),
    (["bn", "--epsilon=-1"], "--epsilon=-1 is not between 0 and 1"),
    (["bn", "--epsilon=nan"], "--epsilon=nan is not between 0 and 1"),
    (["bn", "--epsilon=inf"], "--epsilon=inf is not between 0 and 1"),
    (["bn", "--seed=-1"], "argument --seed: -1 is below 0"),
    (["bn", "--plot=figure.pgn"], "'figure.pgn' is no name of a figure; end it in .png"),
    (["bn", "--plot=missing/figure.png"], "there is no directory 'missing'"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError, match=message):
    run(*arguments)
