"""docs/recipes.md, which benchmarks/recipes.py writes, says what the code does."""

from types import MappingProxyType

import pytest
from commands import ROOT

from benchmarks import recipes
from speedpaper_jax.config.files import load
from speedpaper_jax.config.imagenet_recipes import NAMES
from speedpaper_jax.papers.networks import NETWORKS

ALL = recipes.all_recipes()


def test_the_page_is_the_one_that_is_written():
  written = (ROOT / recipes.PAGE).read_text(encoding="utf-8")
  assert written == recipes.page(), "write it anew with `python -m benchmarks.recipes`"


def test_every_recipe_is_a_row():
  page = recipes.page()
  assert {each.network for each in ALL} == {
    name for name, network in NETWORKS.items() if network.published
  }
  assert {each.recipe for each in ALL} >= set(NAMES)
  for each in ALL:
    assert page.count(f"| `{each.network}` | `{each.recipe}` | {each.numbers.batch_size:,} |") >= 1


def test_numbers_of_a_row():
  (row,) = [
    line
    for line in recipes.page().splitlines()
    if line.startswith("| `inception_v3` | `authors` | 1") and "RMSProp" in line
  ]
  cells = [cell.strip() for cell in row.strip("|").split("|")]
  assert cells[:12] == [
    *("`inception_v3`", "`authors`", "1,024", "8", "RMSProp", "0.66 × 0.94 every 3 epochs"),
    *("4e-5", "0.1, 0", "0.996", "0.995", "170", "78.1 ± 0.5"),
  ]


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.network}-{each.recipe}")
def test_the_arguments_choose_the_recipe(each):
  config = load(f"configs/{each.network}.py:data=imagenet2012,{each.arguments}")
  assert config.batch_size == each.numbers.batch_size
  assert config.optimizer.learning_rate == each.numbers.learning_rate
  assert config.duration == f"{each.numbers.epochs:g} epochs"


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.network}-{each.recipe}")
def test_the_type_is_the_one_that_is_said(each):
  config = load(f"configs/{each.network}.py:data=imagenet2012,{each.arguments}")
  assert config.model.dtype == ("bfloat16" if each.recipe == "modern" else "float32")


def test_every_recipe_has_chip_hours():
  known = recipes.read_chip_hours()
  assert known.keys() == {(each.network, each.recipe) for each in ALL}
  for topology, hours in known.values():
    assert topology.startswith("v5e:")
    assert hours > 0


@pytest.mark.parametrize(
  "damaged", [None, "", "a,b\n", "googlenet,pap", "googlenet,paper,v5e:2x2,x"]
)
def test_a_missing_or_damaged_file_is_told(damaged, monkeypatch, tmp_path):
  """`damaged` is a line after a whole one, or the whole file; None for no file."""
  file = tmp_path / "chip_hours.csv"
  if damaged is not None:
    whole = "network,recipe,slice,chip_hours\n" if damaged.startswith("googlenet") else ""
    file.write_text(whole + damaged)
  monkeypatch.setattr(recipes, "CHIP_HOURS", file)
  with pytest.raises(recipes.UserError, match="missing or damaged") as refusal:
    recipes.page()
  assert str(file) in str(refusal.value)


def test_missing_chip_hours_are_compiled(monkeypatch, tmp_path, capsys):
  """Those that do not fit are told, and the others go on."""
  file = tmp_path / "chip_hours.csv"
  known = [each for each in ALL if each.network != "googlenet"]
  lines = [f"{each.network},{each.recipe},v5e:2x4,1" for each in known]
  file.write_text("\n".join(["network,recipe,slice,chip_hours", *lines, ""]))
  monkeypatch.setattr(recipes, "CHIP_HOURS", file)

  class Report:
    step_seconds = MappingProxyType({"bound": 1.0, "by the compiler's estimate": 2.0})

    def chip_hours(self, seconds):
      return 100 * seconds

  class Device:
    device_kind = "TPU v5 lite"

  def check(config, chip, shape, devices):
    if config.batch_size == 32:
      raise recipes.UserError("A batch of 32 images does not fit.")
    return Report()

  monkeypatch.setattr(recipes.compile_check, "slice_devices", lambda topology: [Device()])
  monkeypatch.setattr(recipes.compile_check, "check", check)
  recipes.compile_missing()
  found = recipes.read_chip_hours()
  assert found["googlenet", "authors"] == found["googlenet", "modern"] == ("v5e:2x4", 200.0)
  assert ("googlenet", "paper") not in found
  assert "does not fit" in capsys.readouterr().err
