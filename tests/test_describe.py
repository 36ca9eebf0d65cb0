"""`python -m speedpaper_jax.describe`."""

import json
import re

import matplotlib.image
import pytest
from commands import finish, run, start

from speedpaper_jax import describe
from speedpaper_jax.errors import UserError

DESCRIBE = ("-m", "speedpaper_jax.describe")
# What would take seconds to import.
HEAVY = {"grain", "matplotlib", "optax", "orbax", "tensorflow", "tensorflow_datasets", "torch"}


def describes(capsys, *arguments):
  """What the command prints."""
  describe.main(describe.parse(["describe", *map(str, arguments)]))
  return capsys.readouterr().out


def cells(line):
  return re.split(r"\s{2,}", line.strip())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """BN-Inception against GoogLeNet: text, JSON and figure."""
  directory = tmp_path_factory.mktemp("pair")
  arguments = ["--model=bn_inception", "--against=googlenet"]
  arguments += [f"--json={directory}/x.json", f"--plot={directory}/x.png"]
  with pytest.MonkeyPatch.context() as patch:
    printed = []
    patch.setattr("builtins.print", printed.append)
    describe.main(describe.parse(["describe", *arguments]))
  return printed[0], json.loads((directory / "x.json").read_text()), directory / "x.png"


class TestOneNetwork:
  def test_a_line_a_stage_and_the_totals(self, capsys):
    title, header, *lines = describes(capsys, "--model=inception_v4").splitlines()
    assert title == "inception_v4 (paper), images of 299×299, 1,000 classes"
    assert cells(header) == [
      *("stage", "output", "kernels", "parameters", "MACs [M]", "activations")
    ]
    assert cells(lines[0]) == ["conv_1a_3x3", "149×149×32", "3×3/2", "928", "19.2", "710,432"]
    (total,) = (line for line in lines if line.startswith("  total"))
    assert cells(total)[:3] == ["total", "42,679,816", "12,254.0"]

  def test_flags(self, capsys):
    arguments = ("--model=bn_inception", "--dialect=slim", "--image_size=64", "--num_classes=10")
    printed = describes(capsys, *arguments)
    assert printed.startswith("bn_inception (slim), images of 64×64, 10 classes\n")
    assert ["logits", "1×1×10", "dense", "10,250", "0.0", "10"] in map(cells, printed.splitlines())

  def test_auxiliary_heads_are_named_and_not_counted(self, capsys):
    printed = describes(capsys, "--model=inception_v3", "--dialect=timm")
    (total,) = (line for line in printed.splitlines() if line.startswith("  total"))
    assert cells(total)[1] == "23,834,568"
    assert "Not counted: aux, an auxiliary head of 3,326,696 parameters" in printed

  def test_says_what_is_counted(self, capsys):
    printed = describes(capsys, "--model=googlenet", "--image_size=32")
    assert "MACs are multiply-adds of convolutions and dense layers" in printed
    assert "appendix" not in printed


class TestBNInceptionAgainstGoogLeNet:
  def test_both_tables_and_the_differences(self, pair):
    text, _, _ = pair
    assert "bn_inception (paper), images of 224×224" in text
    assert "googlenet (paper), images of 224×224" in text
    rows = [cells(line) for line in text.split("by the stages that both have")[1].splitlines()]
    counts = ["1,043,456", "2,182,272", "+1,138,816", "51.1", "106.8", "+55.7"]
    assert ["inception_5a", *counts] in rows

  def test_every_change_with_what_it_costs(self, pair):
    text, _, _ = pair
    table = text.split("each change on top of those above it\n")[1].splitlines()[2:11]
    assert [line[2:28].strip() for line in table] == [
      "GoogLeNet",
      "1 two 3×3 for each 5×5",
      "· filters of Figure 5",
      "2 third module at 28×28",
      "3 average or max pools",
      "4 stride 2 in 3c and 4e",
      "5 separable 7×7",
      "· batch normalization",
      "· all together",
    ]
    assert cells(table[1])[1:] == [
      *("7,277,536", "+285,680", "+4.1 %", "1,555.7", "+57.1", "+3.8 %", "-953,216", "-26.4")
    ]
    assert cells(table[8])[1:7] == [
      *("11,188,288", "+4,196,432", "+60.0 %", "1,934.9", "+436.2", "+29.1 %")
    ]

  def test_the_dense_stem_beside_the_separable_one(self, pair):
    text, _, _ = pair
    rows = [cells(line) for line in text.split("dense, and separable")[1].splitlines()]
    assert [
      "bn_inception",
      "11,194,984",
      "11,188,288",
      "-6,696",
      "2,018.9",
      "1,934.9",
      "-84.0",
    ] in rows
    assert ["googlenet", "6,998,552", "6,991,856", "-6,696", "1,582.7", "1,498.7", "-84.0"] in rows

  def test_what_the_paper_claims(self, pair):
    rows = [cells(line) for line in pair[0].split("What the appendix says")[1].splitlines()]
    growths = ["+30.0 %", "+3.8 %", "+29.1 %", "1.499G", "1.935G"]
    assert ["multiply-adds", *growths, "reproduced by all changes together"] in rows
    growths = ["+25.0 %", "+4.1 %", "+60.0 %", "6.99M", "11.19M"]
    assert ["parameters", *growths, "not reproduced"] in rows

  def test_claims_are_about_the_papers_images_alone(self, capsys):
    arguments = ("--model=bn_inception", "--against=googlenet", "--image_size=64")
    printed = describes(capsys, *arguments)
    assert "two 3×3 for each 5×5" in printed
    assert "What the appendix says" not in printed

  def test_json_has_the_same_numbers(self, pair):
    _, content, _ = pair
    assert list(content) == ["network", "against", "differences", "changes", "claims"]
    network = content["network"]
    assert (network["parameters"], network["multiply_adds"]) == (11_188_288, 1_934_857_216)
    assert sum(stage["parameters"] for stage in network["stages"]) == 11_188_288
    assert network["stages"][0]["kernels"] == ["7×7/2 depthwise", "1×1"]
    steps = content["changes"]["steps"]
    assert steps[0]["before"]["parameters"] == content["against"]["parameters"]
    assert steps[0]["bn_inception_without_it"]["parameters"] == 12_141_504
    assert steps[-1]["after"]["parameters"] == 11_188_288
    assert content["differences"][-1] == {
      "name": "total",
      "parameters": [6_991_856, 11_188_288],
      "multiply_adds": [1_498_677_248, 1_934_857_216],
    }
    assert [claim["verdict"] for claim in content["claims"]][1] == "not reproduced"

  def test_figure(self, pair):
    assert matplotlib.image.imread(pair[2]).shape[1] == 2200

  def test_fits_on_110_columns(self, pair):
    assert max(map(len, pair[0].splitlines())) <= 110


def test_other_pairs_have_no_list_of_changes(capsys):
  printed = describes(capsys, "--model=inception_v4", "--against=inception_v3")
  table = printed.split("From inception_v3 (slim) to inception_v4 (paper)")[1].splitlines()
  names = [cells(line)[0] for line in table[3:9]]
  assert names == [
    *("conv_1a_3x3", "conv_2a_3x3", "conv_2b_3x3", "logits", "other stages", "total")
  ]
  assert "appendix" not in printed


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Name a network with --model: googlenet, bn_inception"),
    (["--model=inception_v5"], r"There is no model 'inception_v5'\. Did you mean"),
    (["--model=inception_v4", "--dialect=tim"], r"no dialect 'tim'\. Did you mean 'timm'"),
    (["--model=inception_v4", "--image_size=74"], "too small for InceptionV4"),
    (["--model=googlenet", "--image_size=32", "--against=vgg"], "There is no model 'vgg'"),
    (["--model=googlenet", "--image_size=0"], "argument --image_size: 0 is below 1"),
    (["--model=googlenet", "--json=missing/x.json"], "there is no directory 'missing'"),
    (["--model=googlenet", "--plot=x.pgn"], "'x.pgn' is no name of a figure"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(UserError, match=message):
    describe.main(describe.parse(["describe", *arguments]))


class TestCommand:
  def test_imports_nothing_that_it_does_not_need(self, scratch):
    program = (
      "import runpy, sys; sys.argv = ['describe', '--model=bn_inception', '--image_size=32']"
    )
    program += "\ntry: runpy.run_module('speedpaper_jax.describe', run_name='__main__')"
    program += "\nexcept SystemExit as end: assert not end.code"
    program += f"\nprint({HEAVY} & {{name.partition('.')[0] for name in sys.modules}})"
    assert run(scratch, "-c", program).splitlines()[-1] == "set()"

  def test_a_mistake_is_one_sentence_and_status_1(self, scratch):
    status, output, errors = finish(start(scratch, *DESCRIBE, "--model=inception_v5"))
    assert (status, output) == (1, "")
    assert re.fullmatch(r"error: There is no model 'inception_v5'\..*\n", errors)
