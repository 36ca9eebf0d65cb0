"""`python -m speedpaper_jax.compare`, and the page that `--all` writes."""

import json
import pathlib

import pytest
from packages import require

from speedpaper_jax import compare
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop import comparison, parity_page, references
from speedpaper_jax.interop.names import implementations
from speedpaper_jax.models import registry

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "pytorch_parity.md"
SMALL = ("--image_size=64", "--num_classes=10", "--batch_size=4")


@pytest.fixture(autouse=True)
def settings_of_jax_as_they_are(monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


def run(*arguments):
  compare.main(compare.parse(["compare", *map(str, arguments)]))


@pytest.fixture(scope="module")
def installed():
  require("pretrainedmodels", "timm")  # timm for its RMSProp


@pytest.mark.slow
class TestBNInception:
  """The one network that is trained for ten steps here; `--all` trains them all."""

  def test_in_float64(self, installed, tmp_path, capsys):
    path = tmp_path / "table.json"
    run("--model=bn_inception", "--reference=pretrainedmodels", *SMALL, f"--json={path}")
    printed = capsys.readouterr().out
    assert printed.startswith(
      "bn_inception (pretrainedmodels) and pretrainedmodels's, float64, 64×64\n"
    )
    result = json.loads(path.read_text())
    assert result["passed"]
    quantities = {row["quantity"] for row in result["rows"]}
    assert quantities >= {
      "logits",
      "loss",
      "running statistics (138)",
      "gradients (209)",
      "gradients that are zero (69)",
      "parameters, 10 steps of sgd (209)",
      "parameters, 10 steps of rmsprop (209)",
    }
    assert all(quantity in printed for quantity in quantities)
    page = parity_page.page([result])
    assert "| bn_inception (pretrainedmodels) | pretrainedmodels | 64 | " in page
    assert "bn_inception of pretrainedmodels: gradients that are zero (69), at most" in page

  def test_in_float32_beside_the_packages_own_error(self, installed, capsys):
    run("--model=bn_inception", "--reference=pretrainedmodels", *SMALL, "--dtype=float32")
    (median,) = (
      line for line in capsys.readouterr().out.splitlines() if "gradients, median" in line
    )
    ours, theirs = (float(part) for part in median.split()[2:4])
    assert median.endswith("theirs")
    assert ours < 3 * theirs


@pytest.mark.parametrize(
  ("model", "names"),
  [
    pytest.param(model, names, id=f"{model}-{names.source}")
    for model in registry.MODELS
    for names in implementations(model)
  ],
)
def test_the_page_has_every_pair_within_its_limits(model, names):
  (row,) = (
    line
    for line in PAGE.read_text().splitlines()
    if line.startswith(f"| {model} ({names.dialect}) | {names.source} | {names.image_size} | ")
  )
  cells = [float(cell) for cell in row.split("|")[4:-1]]
  assert len(cells) == 9
  assert all(cell <= comparison.TOLERANCE for cell in cells)


def test_a_difference_beyond_its_limit_is_shown_and_fails(monkeypatch, capsys):
  rows = [comparison.Row("logits", 1.0, 1e-8, "inception_5b"), comparison.Row("loss", 0.0, 1e-8)]
  monkeypatch.setattr(compare, "_compare", lambda *_: rows)
  with pytest.raises(SystemExit, match="1"):
    run("--model=bn_inception", "--reference=pretrainedmodels")
  lines = capsys.readouterr().out.splitlines()
  assert [line.endswith("EXCEEDED inception_5b") for line in lines] == [False, True, False]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Name a network and a package with --model and --reference, or --all."),
    (["--model=bn_inception"], "Name a network and a package"),
    (["--model=inception_v5", "--reference=timm"], r"There is no model 'inception_v5'\. Did you"),
    (["--model=bn_inception", "--reference=timm"], r"There is no bn_inception of 'timm'\."),
    (["--model=inception_v4", "--reference=tim"], "Did you mean 'timm'"),
    (["--batch_size=1"], "argument --batch_size: 1 is below 2; see --help"),
    (["--image_size=0"], "argument --image_size: 0 is below 1"),
    (["--num_classes=many"], "argument --num_classes: invalid number value: 'many'"),
    (["--modle=bn_inception"], r"There is no flag '--modle'\. Did you mean '--model'\?"),
    (["--mod=bn_inception"], "There is no flag '--mod'"),
    (["bn_inception"], "'bn_inception' is no flag; flags begin with --; see --help"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError, match=message):
    run(*arguments)


def test_a_package_that_is_not_installed(monkeypatch):
  def refuse(name):
    raise ImportError(f"No module named '{name}'")

  monkeypatch.setattr(references.importlib, "import_module", refuse)
  with pytest.raises(UserError, match=r"cannot be imported .* install it: `pip install torch"):
    references.import_package("timm")
