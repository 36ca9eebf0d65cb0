"""A step is compiled for a slice that is not there, and told about: here for eight CPU devices."""

import dataclasses
import importlib.util
import json
import os
import re

import jax
import pytest
import tiny
from commands import finish, start
from jax.experimental import topologies

from speedpaper_jax import compile_check
from speedpaper_jax.compilation import chips, program
from speedpaper_jax.compilation import report as compile_report
from speedpaper_jax.compilation.program import Collective, Cost, Memory, Program
from speedpaper_jax.config.defaults import train_config
from speedpaper_jax.errors import UserError
from speedpaper_jax.models import registry
from speedpaper_jax.steps import assembly

V5E = chips.find("TPU v5 lite")
DEVICES = 8
CONFIG = "--config=configs/bn_inception.py"
TOPOLOGY = "--topology=v5e:4x4"


def tiny_config(**changes):
  config = train_config()
  for name, value in {**tiny.SETTINGS, "data.name": "mnist", **changes}.items():
    config.update_from_flattened_dict({name: value})
  return config


@pytest.fixture
def tiny_network(monkeypatch, tmp_path):
  """In place of the config's; no data set is prepared."""
  monkeypatch.setattr(registry, "create", tiny.create)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


def check(config):
  return compile_check.check(config, V5E, (2, 4), jax.devices())


@pytest.mark.usefixtures("tiny_network")
class TestCheck:
  def test_the_step_of_training_is_compiled(self, capsys):
    config = tiny_config(batch_size=16)
    report = check(config)
    assert capsys.readouterr().out.startswith("Compiling for 8 chips TPU v5e; this takes minutes.")
    assert (report.chips, report.rows, report.steps) == (8, 2, 12)
    # 3×3×3×8 kernels, γ and β, and a dense layer of 4×4×8 to ten classes.
    parameters = 4 * (9 * 3 * 8 + 2 * 8 + 4 * 4 * 8 * 10 + 10)
    assert report.state == {
      "parameters": parameters,
      "batch_stats": 4 * 2 * 8,
      "optimiser state": report.state["optimiser state"],
      "averaged copy": parameters + 4 * 2 * 8,
      "batch": 2 * (16 * 16 * 3 + 4 + 4),
    }
    assert parameters <= report.state["optimiser state"] <= parameters + 16  # momentum, a count
    assert report.program.memory.arguments == sum(report.state.values()) + 8  # step and examples
    assert report.program.flops > 0
    # Statistics of the whole batch: three of the one layer, and the gradients.
    assert len(report.program.collectives) == 4

  def test_a_set_that_is_not_prepared_has_its_known_number_of_classes(self):
    sizes = [check(tiny_config(**{"data.name": name})).state for name in ("mnist", "cifar100")]
    more = (4 * 4 * 8 + 1) * (100 - 10) * 4
    assert sizes[1]["parameters"] - sizes[0]["parameters"] == more

  def test_an_unknown_set_has_to_be_prepared(self):
    with pytest.raises(UserError, match="There is no data set 'cifar11'"):
      check(tiny_config(**{"data.name": "cifar11"}))

  def test_the_batch_has_to_divide_over_the_slice(self):
    with pytest.raises(UserError, match="A batch of 12 does not divide over 8 devices"):
      check(tiny_config(batch_size=12))

  def test_jax_has_to_compile(self):
    with jax.disable_jit(), pytest.raises(UserError, match="JAX_DISABLE_JIT is set"):
      check(tiny_config())

  def test_the_compilers_lack_of_memory_becomes_a_sentence(self, monkeypatch):
    def run_out(*arguments):
      raise jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (98.96G) exceeds available HBM (15.75G)."
      )

    monkeypatch.setattr(assembly, "compile_step", run_out)
    with pytest.raises(UserError) as refusal:
      check(tiny_config(batch_size=32))
    assert str(refusal.value) == (
      "A batch of 32 images, 4 a chip, does not fit: it needs more than 98.96 GiB of memory, and a "
      "TPU v5e has 15.75 GiB. Lower config.batch_size or raise config.accumulation_steps, or set "
      "config.model.dtype=bfloat16."
    )

  def test_other_errors_of_the_compiler_are_not_the_users(self, monkeypatch):
    def fail(*arguments):
      raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(assembly, "compile_step", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
      check(tiny_config())


@pytest.mark.parametrize(
  ("message", "amounts"),
  [
    (
      "Used 20.25G of 15.75G hbm. Exceeded hbm capacity by 4.5G.",
      ("20.25 GiB of memory", "15.75 GiB"),
    ),
    (
      "temporaries (32.97T) exceeds available HBM (512.0M).",
      ("more than 32.97 TiB of memory", "512.0 MiB"),
    ),
    ("out of memory", ("more memory", "less")),
  ],
)
def test_amounts_of_memory_in_the_compilers_words(message, amounts):
  assert compile_check.memory_of_error(message) == amounts


def cost(cycles, direction="forward", layer="conv1/conv", operation="conv_general_dilated"):
  return Cost(cycles, "fusion.1", "bf16[32,112,112,64]", direction, layer, operation)


ONE_COST = (cost(3_000_000),)


def make_report(collectives=(), costs=ONE_COST, **settings):
  """256 images on sixteen chips: 2 ms of computing, of which the network needs 1.5, 1 of memory."""
  config = train_config()
  changes = {"batch_size": 256, "data.image_size": 224, "model.dtype": "bfloat16", **settings}
  config.update_from_flattened_dict(changes)
  mebibytes = {"parameters": 40, "batch_stats": 1, "optimiser state": 40, "batch": 5}
  return compile_report.Report(
    config,
    V5E,
    (4, 4),
    {name: size * 2**20 for name, size in mebibytes.items()},
    Program(
      flops=2e-3 * 197e12,
      memory_traffic=1e-3 * 819e9,
      costs=costs,
      memory=Memory(
        arguments=96 * 2**20, temporaries=1000 * 2**20, outputs=2**20, code=103 * 2**20
      ),
      collectives=collectives,
    ),
    steps=1_800_000,
    image_flops=1.5e-3 * 197e12 / 16,
  )


COLLECTIVES = (
  Collective("all-reduce", 20_000_000, 16, of_batch_norm=False),
  *3 * (Collective("all-reduce", 4_000, 16, of_batch_norm=True),),
  Collective("all-gather", 64_000, 16, of_batch_norm=True, times=2),
)


def row(text, name):
  """The cells of the first row of that name, without it."""
  line = next(line for line in text.splitlines() if line.startswith(f"  {name}  "))
  return line.removeprefix(f"  {name}").split()


class TestInstructions:
  COSTS = (
    cost(1_500_000, "backward"),
    cost(750_000),
    cost(600_000, layer="conv1", operation="max"),
    cost(150_000, "", "", "add"),
  )

  def test_the_highest_are_listed_with_their_layers(self):
    text = compile_report.text(make_report(costs=self.COSTS), top=3)
    section = text[text.index("The 3 highest") :].split("\n\n")[0].splitlines()
    assert section[0] == "The 3 highest estimates of 4 instructions, of 2.00 ms"
    assert [line.split() for line in section[2:]] == [
      ["1.00", "50.0%", "backward", "conv1/conv:", "conv_general_dilated", "bf16[32,112,112,64]"],
      ["0.50", "25.0%", "forward", "conv1/conv:", "conv_general_dilated", "bf16[32,112,112,64]"],
      ["0.40", "20.0%", "forward", "conv1:", "max", "bf16[32,112,112,64]"],
      ["1.90", "95.0%", "together"],
    ]

  def test_they_are_left_out_unless_asked_for(self):
    assert "highest estimates" not in compile_report.text(make_report(costs=self.COSTS))

  def test_without_estimates_that_is_said(self):
    assert "The compiler makes no estimates" in compile_report.text(make_report(costs=()), top=3)

  def test_json_has_them(self):
    (only,) = compile_report.as_json(make_report(costs=self.COSTS), top=1)["instructions"]
    assert (only["cycles"], only["layer"]) == (1_500_000, "conv1/conv")


class TestText:
  def test_says_what_was_compiled(self):
    title = compile_report.text(make_report()).splitlines()[:2]
    assert title == [
      "bn_inception, bfloat16, global statistics, jit",
      "16 chips TPU v5e (4×4), 256 images of 224×224 a step, 16 a chip",
    ]

  @pytest.mark.parametrize(
    ("settings", "words"),
    [
      ({"batch_norm.statistics": "group"}, "statistics of groups of 32"),
      ({"batch_norm.enabled": False}, "no batch normalization"),
      ({"accumulation_steps": 4}, "16 a chip in 4 micro-batches"),
    ],
  )
  def test_says_what_else_matters(self, settings, words):
    assert words in compile_report.text(make_report(**settings))

  def test_memory_adds_up_to_a_part_of_the_chips(self):
    text = compile_report.text(make_report())
    assert row(text, "parameters") == ["40.0"]
    assert row(text, "padding of these") == ["10.0"]
    assert row(text, "temporaries, most of them activations") == ["1,000.0"]
    assert row(text, "total") == ["1,200.0", "of", "16,384,", "7.3%"]

  def test_work_is_told_for_an_image_too(self):
    text = compile_report.text(make_report())
    assert row(text, "operations [GFLOP]") == ["394.0", "24.62"]
    assert row(text, "memory traffic [MB]") == ["819.0", "51.19"]

  def test_collectives_are_told_by_kind_and_purpose(self):
    text = compile_report.text(make_report(COLLECTIVES))
    # 2 · 15/16 · 20 MB at 100 GB/s, and twice six hops.
    assert row(text, "all-reduce, gradients and others") == ["1", "20.000", "0.387"]
    assert row(text, "all-reduce, batch normalization") == ["3", "0.012", "0.036"]
    assert row(text, "all-gather, batch normalization") == ["2", "0.128", "0.013"]

  def test_a_program_without_collectives_says_so(self):
    assert "Collectives of a step" in compile_report.text(make_report())
    assert "\n  none\n" in compile_report.text(make_report())

  def test_times_and_what_they_bound(self):
    text = compile_report.text(make_report(COLLECTIVES))
    assert row(text, "compute") == ["2.00", "at", "197", "TFLOP/s"]
    assert row(text, "memory") == ["1.00", "at", "819", "GB/s"]
    assert row(text, "interconnect")[:4] == ["0.44", "at", "100", "GB/s,"]
    assert row(text, "bound by compute, if all three overlap") == [
      *("2.00", "128,000", "8,000", "75.0%")
    ]
    assert row(text, "if the rest waits for collectives")[0] == "2.44"
    # 3 million cycles at 1.5 GHz.
    assert row(text, "by the compiler's estimate")[0] == "2.44"

  def test_the_whole_run_takes_chip_hours(self):
    text = compile_report.text(make_report(COLLECTIVES))
    (heading,) = [line for line in text.splitlines() if line.startswith("All 1,800,000 steps")]
    assert heading.split()[-2:] == ["hours", "chip-hours"]
    whole = text[text.index(heading) :]
    # 1.8 million times 2 ms is an hour, on sixteen chips.
    assert row(whole, "bound by compute, if all three overlap") == ["1.00", "16.0"]
    assert row(whole, "by the compiler's estimate") == ["1.22", "19.5"]

  def test_an_estimate_that_was_not_made_is_left_out(self):
    assert "by the compiler's estimate" not in compile_report.text(make_report(costs=()))

  def test_fits_on_100_columns(self):
    lines = compile_report.text(make_report(COLLECTIVES)).splitlines()
    assert max(map(len, lines)) <= 100


def test_json_has_the_same_numbers():
  content = json.loads(json.dumps(compile_report.as_json(make_report(COLLECTIVES))))
  assert (content["chip"], content["shape"], content["chips"]) == ("TPU v5e", [4, 4], 16)
  assert content["config"]["batch_size"] == 256
  assert content["memory"]["total"] == 1200 * 2**20
  assert content["memory"]["optimiser state"] == 40 * 2**20
  assert content["flops_per_image"] == pytest.approx(24.625e9)
  assert content["bound"] == "compute"
  assert content["seconds"]["overlapped"] == pytest.approx(2e-3)
  assert content["images_per_second"] == pytest.approx(128_000)
  assert content["mfu"] == pytest.approx(0.75)
  assert content["steps"] == 1_800_000
  assert content["chip_hours"]["overlapped"] == pytest.approx(16)
  assert content["chip_hours"]["in_turn"] == pytest.approx(19.49, abs=0.01)
  assert len(content["collectives"]) == 5
  assert content["collectives"][4]["seconds"] == pytest.approx(13.2e-6)


def test_a_program_that_is_too_large_is_refused():
  report = make_report(**{"model.dtype": "bfloat16"})
  compile_report.check_fits(report)
  small = dataclasses.replace(report, chip=dataclasses.replace(V5E, memory_bytes=2**30))
  with pytest.raises(UserError) as refusal:
    compile_report.check_fits(small)
  assert str(refusal.value) == (
    "A batch of 256 images, 16 a chip, does not fit: it needs 1.17 GiB of memory, and a TPU v5e "
    "has 1.00 GiB. Lower config.batch_size or raise config.accumulation_steps."
  )


class TestFlags:
  def test_fields_of_the_config_are_overridden(self):
    options = compile_check.parse(
      ["compile_check", f"{CONFIG}:data=imagenet2012", TOPOLOGY, "--config.batch_size=512"]
    )
    assert (options.config.data.name, options.config.batch_size) == ("imagenet2012", 512)
    assert options.topology == "v5e:4x4"

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      (["--config=configs/mnist_bn.py", TOPOLOGY], "'mnist_bn' trains several networks"),
      ([TOPOLOGY], "Name a config with --config=FILE"),
      ([CONFIG], "Name a TPU slice with --topology, as in v5e:4x4"),
      (["--config=configs/inception_v5.py", TOPOLOGY], "Did you mean 'configs/inception_v4.py'"),
      ([CONFIG, TOPOLOGY, "--config.batchsize=8"], "Did you mean 'batch_size'"),
      ([CONFIG, TOPOLOGY, "--config.batch_size=many"], "batch_size"),
      ([CONFIG, TOPOLOGY, "--jsn=x"], "There is no flag '--jsn'. Did you mean '--json'?"),
      ([CONFIG, TOPOLOGY, "v5e:4x4"], "'v5e:4x4' is no flag; flags begin with --, as in --config="),
      (["v5e:4x4"], "'v5e:4x4' is no flag"),
      ([TOPOLOGY, "--config.batch_size=8"], "Name a config with --config=FILE"),
      (["--config", TOPOLOGY], "argument --config: expected one argument; see --help"),
      ([CONFIG, TOPOLOGY, "--config.batch_size"], "Missing value for flag --config.batch_size"),
      ([CONFIG, TOPOLOGY, "--noconfig.batch_size"], "give --config.batch_size=VALUE"),
    ],
  )
  def test_mistakes(self, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
      compile_check.parse(["compile_check", *arguments])

  def test_a_file_that_cannot_be_written_is_told_before_the_work(self):
    options = compile_check.parse(["compile_check", CONFIG, TOPOLOGY, "--json=missing/x.json"])
    with pytest.raises(UserError, match="there is no directory 'missing'"):
      compile_check.main(options)


@pytest.fixture
def settings(monkeypatch):
  """Those of JAX and of the environment are as before afterwards."""
  for name in (
    *("TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD"),
    *("TPU_WORKER_HOSTNAMES", "TPU_ACCELERATOR_TYPE"),
  ):
    monkeypatch.setenv(name, "")  # so that it is put back
    monkeypatch.delenv(name)
  cache = jax.config.jax_enable_compilation_cache
  yield
  jax.config.update("jax_enable_compilation_cache", cache)


@pytest.mark.usefixtures("settings")
class TestSlice:
  @pytest.mark.parametrize(
    ("topology", "shape"),
    [("v5e:4x4", (4, 4)), ("v5e:16x16", (16, 16)), ("v5p:2x2x1", (2, 2, 1))],
  )
  def test_its_shape_is_in_its_name(self, topology, shape):
    assert compile_check.slice_shape(topology) == shape

  def test_a_twist_is_no_part_of_the_shape(self):
    assert compile_check.slice_shape("v4:4x4x8_twisted") == (4, 4, 8)

  def test_without_the_compiler_its_package_is_named(self, monkeypatch):
    def fail(topology, platform):
      raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(topologies, "get_topology_desc", fail)
    with pytest.raises(UserError) as refusal:
      compile_check.slice_devices("v5e:4x4")
    assert f'`pip install "jax[tpu]=={jax.__version__}"`' in str(refusal.value)

  def test_an_unknown_one_is_refused_with_examples(self, monkeypatch):
    def refuse(topology, platform):
      raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Invalid TPU external name: TPU v5x")

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    with pytest.raises(UserError) as refusal:
      compile_check.slice_devices("v5x:4x4")
    assert str(refusal.value) == (
      "There is no TPU slice 'v5x:4x4' (Invalid TPU external name: TPU v5x); name one as in "
      "v5e:4x4, v5e:16x16, v6e:8x8, v5p:4x4x4 or v4:4x4x4."
    )


@pytest.fixture
def compile_for_a_slice(tiny_network, optimized):
  """Runs the command for sixteen chips of a TPU v5e that are not there."""
  if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
    message = 'libtpu is not installed; pip install "jax[tpu]" brings it'
    if os.environ.get("LIBTPU") == "required":  # as in CI
      pytest.fail(message)
    pytest.skip(message)

  def run(*arguments, **changes):
    own = {"data.name": "mnist", "batch_norm.statistics": "global"}
    settings = {**tiny.SETTINGS, **own, **changes}
    overrides = [f"--config.{name}={value}" for name, value in settings.items()]
    argv = ["compile_check", CONFIG, TOPOLOGY, *overrides, *arguments]
    compile_check.main(compile_check.parse(argv))

  return run


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
class TestWithTheCompiler:
  def test_a_step_is_compiled(self, compile_for_a_slice, tmp_path, capsys):
    json_file = tmp_path / "x.json"
    compile_for_a_slice(f"--json={json_file}", "--top=20", batch_size=64)
    output = capsys.readouterr().out
    assert "16 chips TPU v5e (4×4), 64 images of 16×16 a step, 4 a chip" in output
    assert re.search(
      r"\n +0\.\d+ +\d+\.\d% +(back|for)ward +\w+/conv: conv_general_dilated  ", output
    )
    content = json.loads(json_file.read_text())
    assert content["cycles"] > 0
    assert {one["members"] for one in content["collectives"]} == {16}


class TestCommand:
  def test_a_mistake_is_one_sentence_and_status_1(self, scratch):
    status, output, errors = finish(start(scratch, "-m", "speedpaper_jax.compile_check", CONFIG))
    assert (status, output) == (1, "")
    assert re.fullmatch(r"error: Name a TPU slice with --topology, .*\n", errors)


def test_the_kinds_of_collectives_all_have_a_time():
  network = make_report().network
  for kind in program.KINDS:
    one = Collective(kind, 1_000_000, 16, of_batch_norm=False)
    twice = dataclasses.replace(one, times=2)
    seconds = compile_report.collective_seconds(one, network)
    assert 0 < seconds < compile_report.collective_seconds(twice, network)
