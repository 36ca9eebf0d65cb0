"""Speed beside other implementations: the sides, their turns, the tables."""

import json
import os

import packages
import pytest
from commands import finish, start

from speedpaper_jax import benchmark
from speedpaper_jax.benchmarking import peers, tables, turns
from speedpaper_jax.benchmarking.turns import Measured
from speedpaper_jax.benchmarking.work import Work
from speedpaper_jax.errors import UserError

COMMAND = ("-m", "speedpaper_jax.benchmark", "--device=cpu", "--turns=2", "--seconds=1")
SMALL = ("--model=small_inception", "--image_size=8", "--batch_size=4")
# Of training, evaluation, reports and the other sides.
NOT_NEEDED = (
  *("PIL", "array_record", "grain", "importlib_resources", "jinja2", "matplotlib", "orbax"),
  *("tensorboard", "tensorflow_datasets", "torch", "tqdm"),
)


def rejected(*arguments):
  with pytest.raises(UserError) as refusal:
    benchmark.main(benchmark.parse(["benchmark", *arguments]))
  return str(refusal.value)


class TestMistakes:
  @pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
      (["--model=inception_v5"], "--model names 'inception_v5'. Did you mean 'inception_v"),
      (["--against=tim"], "--against names 'tim'. Did you mean 'timm'?"),
      (["--mode=train"], "--mode names 'train'. Did you mean 'training'?"),
      (["--dtype=float64"], "--dtype names 'float64'. Did you mean 'bfloat16'?"),
      (["--device=gpus"], "--device names 'gpus'. Did you mean 'gpu'?"),
      (
        ["--model=bn_inception,inception_v4", "--against=keras"],
        "keras has no bn_inception, inception_v4; name another one with --against.",
      ),
      (["--json=nowhere/x.json"], "nowhere/x.json cannot be written"),
    ],
  )
  def test_are_told_before_anything_starts(self, arguments, sentence, monkeypatch):
    monkeypatch.setattr(turns, "find_peaks", lambda *_: pytest.fail("it started"))
    assert sentence in rejected(*arguments)

  def test_images_of_which_nothing_is_left_are_told_by_the_side(self, scratch):
    flags = ("--model=inception_v3", "--image_size=16", "--mode=inference")
    status, _, errors = finish(start(scratch, *COMMAND, *flags))
    assert status == 1
    assert "error: The images are too small for InceptionV3" in errors

  @pytest.mark.parametrize("device", ["gpu", "tpu"])
  def test_a_device_that_is_not_there(self, device, scratch):
    status, output, errors = finish(start(scratch, *COMMAND, *SMALL, f"--device={device}"))
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: JAX has no device '{device}' here; leave --device out")

  def test_what_a_package_lacks_is_told_and_the_others_are_measured(self, capsys):
    options = benchmark.parse(["benchmark", "--model=all", "--against=torchvision,facenet"])
    compared = [(model, *sides) for model, _, sides in benchmark._comparisons(options)]
    assert compared == [
      ("googlenet", "ours", "torchvision"),
      ("inception_v3", "ours", "torchvision"),
      ("inception_resnet_v1", "ours", "facenet"),
    ]
    assert capsys.readouterr().err == (
      "Note: facenet has no googlenet, bn_inception, inception_v3, inception_v4, "
      "inception_resnet_v2; torchvision has no bn_inception, inception_v4, inception_resnet_v1, "
      "inception_resnet_v2; the others are measured.\n"
    )


def test_a_network_is_compared_in_the_dialect_of_the_other():
  assert peers.dialect_of("bn_inception", "pretrainedmodels") == "pretrainedmodels"
  assert peers.dialect_of("inception_v3", "keras") == "slim"
  assert peers.dialect_of("googlenet", "timm") is None


@pytest.mark.parametrize(
  ("model", "against", "compared"),
  [
    ("inception_v3", "flax", [("slim", "ours", "flax")]),
    (
      "inception_v3",
      "flax,torchvision,keras",
      [("torchvision", "ours", "torchvision", "flax"), ("slim", "ours", "keras")],
    ),
    ("inception_v4", "timm,flax,timm", [("timm", "ours", "timm", "flax")]),
    ("small_inception", "keras,flax", [("paper", "ours", "flax")]),
  ],
)
def test_implementations_of_one_dialect_take_turns_together(model, against, compared):
  """And plain layers, of which any dialect can be built, with the first."""
  options = benchmark.parse(["benchmark", f"--model={model}", f"--against={against}"])
  found = [(dialect, *sides) for _, dialect, sides in benchmark._comparisons(options)]
  assert found == compared


@pytest.mark.slow
class TestCommand:
  def test_needs_no_packages_of_training_and_no_data(self, scratch, tmp_path, monkeypatch):
    """As on a machine with JAX, Flax, Optax and ml_collections alone."""
    for package in NOT_NEEDED:
      (tmp_path / f"{package}.py").write_text(f"raise ImportError('{package} is not there')")
    numbers = tmp_path / "numbers.json"
    process = start(
      scratch,
      "-c",
      f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); "
      "import os; os.environ['PYTHONPATH'] = os.pathsep.join(sys.path[:2]); "
      "sys.argv[0] = 'benchmark'; "
      "runpy.run_module('speedpaper_jax.benchmark', run_name='__main__', alter_sys=True)",
      *COMMAND[2:],
      *SMALL,
      "--against=flax",
      "--mode=training",
      f"--json={numbers}",
    )
    status, output, errors = finish(process)
    assert status == 0, errors
    (row,) = json.loads(numbers.read_text())["rows"]
    ours, flax = row["sides"]
    assert (ours["side"], flax["side"]) == ("ours", "flax")
    assert len(ours["rates"]) == len(flax["rates"]) == 2
    assert min(*ours["rates"], *flax["rates"]) > 0
    assert not json.loads(numbers.read_text())["deterministic"]
    assert list(ours["cold"]) == ["imports", "network", "compiling", "first step"]
    assert ours["memory"] > 2**20
    # XLA leaves out the products with padding, and the gradient of the input.
    assert 0.5 < ours["xla_flops_per_image"] / row["flops_per_image"] < 1.5
    assert len([line for line in output.splitlines() if line.startswith("|")]) == 2 + 2

  def test_deterministic_programs_are_said_to_be_such(self, scratch, tmp_path):
    numbers = tmp_path / "numbers.json"
    flags = ("--mode=training", "--deterministic", f"--json={numbers}")
    status, output, errors = finish(start(scratch, *COMMAND, *SMALL, *flags))
    assert status == 0, errors
    assert ", float32, deterministic, batches of 4; peaks, " in output.splitlines()[0]
    assert json.loads(numbers.read_text())["deterministic"]

  def test_a_side_that_ends_is_told(self, scratch, monkeypatch):
    monkeypatch.setitem(os.environ, "XLA_FLAGS", "--no_such_flag=1")
    status, _, errors = finish(start(scratch, *COMMAND, *SMALL))
    assert status == 1
    assert errors.startswith("error: The process of ours ended with status ")

  def test_what_was_wrong_within_a_compiled_function_is_told(self, tmp_path):
    program = "__import__('jax').jit(lambda x: x.nothing)(1.0)"
    with (
      turns._Process("ours", program, "cpu", tmp_path).running() as process,
      pytest.raises(UserError, match=r"AttributeError: .* has no attribute '?nothing"),
    ):
      process.ready()

  def test_a_side_that_is_killed_is_told_and_what_was_measured_is_kept(
    self, monkeypatch, tmp_path, capsys
  ):
    take = turns._Process.take
    numbers = tmp_path / "numbers.json"

    def take_until_one_row_is_there(process, count):
      if numbers.exists():
        process._process.kill()
      return take(process, count)

    monkeypatch.setattr(turns._Process, "take", take_until_one_row_is_there)
    with pytest.raises(UserError, match=r"The process of ours was killed by signal 9, as systems"):
      benchmark.main(benchmark.parse([*COMMAND[1:], *SMALL, f"--json={numbers}"]))
    assert [row["work"]["mode"] for row in json.loads(numbers.read_text())["rows"]] == ["training"]
    assert capsys.readouterr().out.count("| ours ") == 1

  @pytest.mark.parametrize(
    ("model", "package", "size"),
    [("bn_inception", "pretrainedmodels", 32), ("inception_v3", "keras", 75)],
  )
  def test_beside_another_implementation(self, scratch, model, package, size):
    packages.require(package)
    flags = (f"--model={model}", f"--against={package}", f"--image_size={size}")
    status, output, errors = finish(
      start(scratch, *COMMAND, *flags, "--batch_size=2", "--mode=inference")
    )
    assert status == 0, errors
    assert f"| {package} " in output


def test_other_parameters_are_no_comparison():
  ready = {"ours": {"facts": {"parameter_sizes": [3, 4]}}}
  turns.check_same({**ready, "timm": {"facts": {"parameter_sizes": [3, 4]}}})
  with pytest.raises(UserError, match="The networks of ours and timm are not the same"):
    turns.check_same({**ready, "timm": {"facts": {"parameter_sizes": [2, 5]}}})


WORK = Work("inception_v4", "timm", "training", 299, 8, "float32", "cpu")
PEAKS = {"flops": 100e9, "bandwidth": 10e9}


def measured(side, rates, **facts):
  facts = {
    "parameter_sizes": [40, 2],
    "device_kind": "cpu",
    "flops": None,
    "bytes_accessed": None,
    **facts,
  }
  return Measured(side, rates, {"imports": 2.0, "compiling": 30.0}, {"imports": 2.5}, 2**30, facts)


class TestTable:
  OURS = measured("ours", (2.0, 1.0, 4.0), flops=8e9, bytes_accessed=32e9)
  THEIRS = measured("timm", (4.0, 4.0, 4.0))

  def row(self):
    return tables.as_row(WORK, [self.OURS, self.THEIRS], multiply_adds=10**9, peaks=PEAKS)

  def test_ratios_are_those_of_the_turns(self):
    ours, theirs = self.row()["sides"]
    assert theirs["ratios"] == [0.5, 0.25, 1.0]
    assert theirs["ratio"] == 0.5
    assert "ratio" not in ours

  def test_operations_are_the_networks_own(self):
    """Six for each multiply-add of the forward pass in training, two in inference."""
    row = self.row()
    assert row["flops_per_image"] == 6e9
    assert row["sides"][0]["mfu"] == 6e9 * 2 / 100e9
    inference = Work("inception_v4", "timm", "inference", 299, 8, "float32", "cpu")
    assert tables.as_row(inference, [self.OURS], 10**9, PEAKS)["flops_per_image"] == 2e9

  def test_the_roofline_is_the_larger_of_both_times(self):
    """4 GB an image at 10 GB/s take 0.4 s, where the operations take 0.06 s."""
    ours, theirs = self.row()["sides"]
    assert ours["roofline"] == pytest.approx(0.4 * 2)
    assert theirs["roofline"] is None

  def test_a_line_for_each_side(self):
    first, second = (
      [cell.strip() for cell in line.strip("|").split("|")]
      for line in tables.lines(self.row()).splitlines()
    )
    assert first == [
      *("inception_v4", "training", "ours", "2", "1–4", ""),
      *("32.0", "2.5", "1,024", "12.0%", "80%"),
    ]
    assert second[:6] == ["", "", "timm", "4", "4–4", "0.50 (0.25–1.00)"]
