"""What is read from compiled steps, of small networks on eight virtual devices."""

import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from speedpaper_jax.compilation import hlo_text
from speedpaper_jax.compilation.program import (
  Collective,
  analyse,
  collectives,
  costs,
  memory_traffic,
)
from speedpaper_jax.distributed import parallel
from speedpaper_jax.models import ops
from speedpaper_jax.models.batch_norm import BatchNorm
from speedpaper_jax.models.layers import ConvBlock, LayerSettings
from speedpaper_jax.steps.step import TrainState, make_train_step

DEVICES = 8
ROWS = 4
SIZE = 8
CHANNELS = (8, 12)


class TwoLayers(nn.Module):
  settings: LayerSettings

  @nn.compact
  def __call__(self, images, *, train):
    x = images
    for channels in CHANNELS:
      x = ConvBlock(channels, (3, 3), self.settings)(x, train=train)
    return nn.Dense(10)(jnp.mean(x, (1, 2)))


@functools.cache
def compile_step(mode, statistics, accumulation_steps=1):
  mesh, axis_name = parallel.make_mesh(), parallel.axis_name(mode)
  batch_norm = BatchNorm(
    virtual_batch_size=ROWS if (mode, statistics) == ("jit", "replica") else None,
    axis_name=axis_name if statistics == "global" else None,
  )
  model = TwoLayers(LayerSettings(batch_norm, operations=ops.CPU, axis_name=axis_name))
  optimizer = optax.sgd(0.1)
  step = make_train_step(
    model, optimizer, seed=0, accumulation_steps=accumulation_steps, axis_name=axis_name
  )

  def draw():
    variables = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
    return TrainState.create(variables, optimizer, with_average=False)

  rows = DEVICES * ROWS * accumulation_steps
  batch = {
    "image": jax.ShapeDtypeStruct((rows, SIZE, SIZE, 3), jnp.uint8),
    "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
    "mask": jax.ShapeDtypeStruct((rows,), jnp.float32),
  }
  state = parallel.replicated_template(mesh, jax.eval_shape(draw))
  compiled = parallel.jit_train_step(step, mesh, mode).lower(state, batch).compile()
  return analyse(compiled, DEVICES, accumulation_steps)


def gradient_bytes():
  kernels = 9 * 3 * CHANNELS[0] + 9 * CHANNELS[0] * CHANNELS[1]
  return 4 * (kernels + CHANNELS[1] * 10 + 10)


class TestCollectives:
  def test_gradients_are_summed_once_a_step_with_little_else(self):
    (gradients,) = compile_step("pmap", "replica").collectives
    assert (gradients.kind, gradients.members, gradients.times) == ("all-reduce", DEVICES, 1)
    assert not gradients.of_batch_norm
    gamma, beta, mean, variance = 4 * [4 * sum(CHANNELS)]
    scalars = gradients.size - gradient_bytes() - gamma - beta - mean - variance
    assert 0 <= scalars <= 8 * 4

  @pytest.mark.parametrize("mode", ["jit", "pmap"])
  def test_joint_statistics_have_their_own(self, mode):
    count = {"jit": 3, "pmap": 2}[mode] * len(CHANNELS)
    collectives = compile_step(mode, "global").collectives
    assert len(collectives) == 1 + count
    of_layers = [one for one in collectives if one.of_batch_norm]
    # The last layer's gradient may share its exchange with a sum of something else.
    assert count - 1 <= len(of_layers) <= count

  def test_each_layer_under_jit_sums_means_deviations_and_their_gradients(self):
    collectives = compile_step("jit", "global").collectives
    forward = [one.size for one in collectives if one.of_batch_norm][:4]
    with_count = [4 * (1 + channels) for channels in CHANNELS]  # of the rows that are not masked
    assert forward == [with_count[0], 4 * CHANNELS[0], with_count[1], 4 * CHANNELS[1]]

  def test_each_layer_with_a_named_axis_gathers_both_and_their_count_from_all(self):
    collectives = compile_step("pmap", "global").collectives
    gathers = [one.size for one in collectives if one.kind == "all-gather"]
    assert gathers == [DEVICES * 4 * (1 + 2 * channels) for channels in CHANNELS]

  def test_micro_batches_repeat_those_of_their_loop(self):
    collectives = compile_step("jit", "global", accumulation_steps=2).collectives
    assert {one.times for one in collectives if one.of_batch_norm} == {2}

  def test_start_and_end_of_an_asynchronous_one_are_one(self):
    text = """\
ENTRY %main (p: f32[4]) -> f32[16] {
  %p = f32[4]{0} parameter(0)
  %s = (f32[4]{0}, f32[16]{0}) all-gather-start(%p), replica_groups=[4,4]<=[16], dimensions={0}
  %r = f32[4]{0} all-reduce-start(%p), replica_groups={}, to_apply=%add
  %t = f32[4]{0} all-reduce-done(%r)
  ROOT %d = f32[16]{0} all-gather-done(%s)
}
"""
    assert find(text) == [
      Collective("all-gather", 64, members=4, of_batch_norm=False),
      Collective("all-reduce", 16, members=DEVICES, of_batch_norm=False),
    ]

  def test_a_reduce_scatter_takes_the_whole_array(self):
    line = "f32[2]{0} reduce-scatter(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}"
    assert find(program(line)) == [Collective("reduce-scatter", 32, 4, of_batch_norm=False)]

  @pytest.mark.parametrize(
    ("groups", "members"),
    [
      ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
      ("replica_groups=[2,4]<=[8]", 4),
      ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
      ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", 8),
      ("channel_id=3", 8),
    ],
  )
  def test_members(self, groups, members):
    (found,) = find(program(f"f32[2]{{0}} all-reduce(%p), {groups}, to_apply=%add"))
    assert found.members == members

  @pytest.mark.parametrize(
    ("path", "is_of_batch_norm"),
    [
      ("jit(train_step)/jvp(Net)/conv1/batch_norm/reduce_sum", True),
      ("jit(train_step)/(jvp(Net)/a/batch_norm/psum:jvp(Net)/b/batch_norm/psum)", True),
      ("jit(train_step)/(jvp(Net)/a/batch_norm/psum:jvp(Net)/b/conv/psum)", False),
      ("jit(train_step)/transpose(jvp(Net))/conv1/conv/conv_general_dilated", False),
    ],
  )
  def test_batch_normalization_is_told_by_the_layers_path(self, path, is_of_batch_norm):
    line = f'f32[2]{{0}} all-reduce(%p), to_apply=%add, metadata={{op_name="{path}"}}'
    (found,) = find(program(line))
    assert found.of_batch_norm == is_of_batch_norm

  @pytest.mark.parametrize(
    ("operand", "is_of_batch_norm"),
    [
      ("transpose(jvp(Net))/conv1/conv/transpose(jvp())/conv_general_dilated", False),
      ("transpose(jvp(Net))/logits/dot_general", False),
      ("transpose(jvp(Net))/conv1/batch_norm/reduce_sum", True),
      ("jvp()/reduce_sum", True),  # of the loss, a number beside the others
    ],
  )
  def test_of_a_joint_one_every_operand_is_asked(self, operand, is_of_batch_norm):
    """Whose path is that of its first."""
    metadata = 'metadata={{op_name="jit(train_step)/{}"}}'.format
    first = metadata("transpose(jvp(Net))/conv1/batch_norm/reduce_sum")
    text = f"""\
ENTRY %main (p: f32[4]) -> (f32[4], f32[4]) {{
  %p = f32[4]{{0}} parameter(0)
  %a = f32[4]{{0}} fusion(%p), kind=kLoop, {first}
  %b = f32[4]{{0}} fusion(%p), kind=kOutput, {metadata(operand)}
  ROOT %r = (f32[4]{{0}}, f32[4]{{0}}) all-reduce(%a, %b), to_apply=%add, {first}
}}
"""
    assert find(text) == [Collective("all-reduce", 32, DEVICES, of_batch_norm=is_of_batch_norm)]


def program(line):
  return (
    f"ENTRY %main (p: f32[8]) -> f32[2] {{\n  %p = f32[8]{{0}} parameter(0)\n  %x = {line}\n}}\n"
  )


def find(text):
  return collectives(hlo_text.instructions(text), DEVICES)


class TestMemoryTraffic:
  def test_operands_are_read_and_results_written(self):
    text = program("f32[2]{0} fusion(%p), kind=kLoop, calls=%fused")
    assert memory_traffic(hlo_text.instructions(text)) == 32 + 8

  def test_what_stays_on_the_chip_does_not_count(self):
    text = program("f32[2]{0:T(128)S(1)} fusion(%p), kind=kLoop, calls=%fused")
    assert memory_traffic(hlo_text.instructions(text)) == 32

  def test_names_for_what_is_there_cost_nothing(self):
    text = program("f32[2,4]{1,0} bitcast(%p)")
    assert memory_traffic(hlo_text.instructions(text)) == 0

  def test_a_copy_to_the_chip_is_read_once(self):
    text = program("(f32[8]{0:S(1)}, f32[8]{0}, u32[]{:S(2)}) copy-start(%p)")
    assert memory_traffic(hlo_text.instructions(text)) == 32

  def test_of_an_array_that_is_sliced_only_the_slice_is_read(self):
    text = program("((f32[8]{0}), f32[2]{0:S(1)}, s32[]{:S(2)}) slice-start(%p), slice={[0:2]}")
    assert memory_traffic(hlo_text.instructions(text)) == 8


class TestCounts:
  def test_operations_are_those_of_one_device(self):
    weights = jax.ShapeDtypeStruct((32, 16), jnp.float32)
    rows = jax.ShapeDtypeStruct((DEVICES * ROWS, 32), jnp.float32)
    mesh = parallel.make_mesh()
    by_rows = NamedSharding(mesh, PartitionSpec(parallel.AXIS))
    product = jax.jit(lambda w, x: x @ w, in_shardings=(None, by_rows), out_shardings=by_rows)
    found = analyse(product.lower(weights, rows).compile(), DEVICES)
    assert found.flops == 2 * ROWS * 32 * 16
    assert found.memory.arguments == 4 * (32 * 16 + ROWS * 32)
    assert found.memory.outputs == 4 * ROWS * 16
    assert found.collectives == ()
    assert found.cycles is None  # a CPU's compiler makes no estimate

  def test_micro_batches_are_as_much_work_as_one_batch_of_as_many_images(self):
    one, two = compile_step("pmap", "replica"), compile_step("pmap", "replica", 2)
    assert two.flops == pytest.approx(2 * one.flops, rel=0.1)

  def test_the_new_state_takes_the_place_of_the_old(self):
    memory = compile_step("jit", "global").memory
    assert memory.outputs < memory.arguments / 10  # metrics alone
    assert memory.total == memory.arguments + memory.temporaries + memory.outputs + memory.code

  def test_the_compilers_estimates_add_up(self):
    line = 'f32[2]{0} fusion(%p), backend_config={"window_config":{"estimated_cycles":"70"}}'
    compiled = types.SimpleNamespace(
      as_text=lambda: program(f"{line}\n  %y = {line}"),
      cost_analysis=lambda: {"flops": 1.0},
      memory_analysis=lambda: types.SimpleNamespace(
        argument_size_in_bytes=0,
        temp_size_in_bytes=0,
        output_size_in_bytes=0,
        alias_size_in_bytes=0,
        generated_code_size_in_bytes=0,
      ),
    )
    assert analyse(compiled, DEVICES).cycles == 140


@pytest.mark.parametrize(
  ("path", "place"),
  [
    (
      "jit(train_step)/jvp(Network)/block_1/conv/conv_general_dilated",
      ("forward", "block_1/conv", "conv_general_dilated"),
    ),
    (
      "jit(train_step)/transpose(jvp(Network))/block_1/conv/conv_general_dilated",
      ("backward", "block_1/conv", "conv_general_dilated"),
    ),
    ("jit(train_step)/jvp(Network)/conv1/jit(relu)/max", ("forward", "conv1", "max")),
    (
      "jit(train_step)/transpose(jvp(Network))/conv1/batch_norm/jvp(Network)/conv1/batch_norm/"
      "checkpoint/transpose()/reduce_sum",
      ("backward", "conv1/batch_norm", "reduce_sum"),
    ),
    ("jit(train_step)/jvp()/convert_element_type", ("", "", "convert_element_type")),
    ("jit(train_step)/add", ("", "", "add")),
    ("", ("", "", "")),
  ],
)
def test_an_estimate_has_its_place_in_the_network(path, place):
  metadata = f', metadata={{op_name="{path}"}}' if path else ""
  text = f"""ENTRY %main (p: f32[2]) -> f32[2] {{
  %p = f32[2]{{0}} parameter(0)
  %few = f32[2]{{0}} fusion(%p), backend_config={{"estimated_cycles":"7"}}
  ROOT %many = (f32[2]{{0}}, bf16[8,4]{{1,0}}) fusion(%p){metadata}, x={{"estimated_cycles":"70"}}
}}
"""
  many, few = costs(hlo_text.instructions(text))
  assert (many.cycles, many.output) == (70, "bf16[8,4]")
  assert (few.cycles, few.output) == (7, "f32[2]")
  assert (many.direction, many.layer, many.operation) == place
