"""The text of compiled programs, as XLA writes it."""

import jax
import jax.numpy as jnp
import pytest

from speedpaper_jax.compilation import hlo_text

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%carry), index=1
  ROOT %reduced = f32[8]{0} all-reduce(%x), replica_groups={}, to_apply=%add
}

ENTRY %main (p: f32[8], /*index=1*/q: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(128)} parameter(0)
  %start = (f32[8]{0:T(128)S(1)}, f32[8]{0:T(128)}, u32[]{:S(2)}) copy-start(%p)
  %done = f32[8]{0:T(128)S(1)} copy-done(%start)
  %loop = (s32[], f32[8]{0}) while(%done), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"4"}}
  ROOT %last = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def test_what_other_instructions_call_is_left_out():
  found = [instruction.name for instruction in hlo_text.instructions(PROGRAM)]
  assert found == ["carry", "x", "reduced", "p", "start", "done", "loop", "last"]


def test_a_loops_body_runs_as_often_as_the_loop_goes_round():
  times = {one.operation: one.times for one in hlo_text.instructions(PROGRAM)}
  assert times["all-reduce"] == 4
  assert times["copy-start"] == 1


def test_an_instruction_names_its_operands_and_not_what_it_calls():
  instructions = {one.name: one for one in hlo_text.instructions(PROGRAM)}
  reduced = instructions["reduced"]
  assert reduced.shape == "f32[8]{0}"
  assert reduced.operands == ("x",)
  assert "to_apply=%add" in reduced.attributes
  assert instructions["start"].operation == "copy-start"


def test_a_fusion_that_starts_a_collective_holds_it():
  text = """\
%fused (q: f32[8]) -> f32[64] {
  %q = f32[8]{0} parameter(0)
  ROOT %g = f32[64]{0} all-gather(%q), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
}

ENTRY %main (p: f32[8]) -> f32[64] {
  %p = f32[8]{0} parameter(0)
  %async-collective-start.1 = (f32[8]{0}, f32[64]{0}) fusion(%p), kind=kCustom, calls=%fused
  ROOT %async-collective-done.1 = f32[64]{0} fusion(%async-collective-start.1), calls=%fused
}
"""
  _, start, done = hlo_text.instructions(text)
  assert [one.operation for one in start.inner] == ["parameter", "all-gather"]
  assert done.inner == ()


def test_loops_within_loops_multiply():
  def inner(carry, _):
    return jnp.sin(carry), None

  def outer(carry, _):
    return jax.lax.scan(inner, carry @ carry, length=5)[0], None

  function = jax.jit(lambda x: jax.lax.scan(outer, x, length=3)[0])
  text = function.lower(jnp.ones((64, 64))).compile().as_text()
  times = {one.times for one in hlo_text.instructions(text)}
  assert times == {1, 3, 15}


@pytest.mark.parametrize(
  ("shape", "bytes_"),
  [
    ("f32[]", 4),
    ("f32[2,3]{1,0}", 24),
    ("bf16[3,3,64,192]{3,2,1,0:T(8,128)(2,1)S(1)}", 2 * 9 * 64 * 192),
    ("pred[7]{0}", 7),
    ("s8[10]", 10),
    ("u32[4]{0}", 16),
    ("f8e4m3fn[16]{0}", 16),
    ("s4[16]{0}", 8),
    ("c64[2]{0}", 16),
    ("(f32[224]{0:T(256)S(1)}, f32[]{:T(128)}, /*index=5*/bf16[2,2]{1,0})", 896 + 4 + 8),
    ("token[]", 0),
    ("f32[0,5]{1,0}", 0),
  ],
)
def test_the_size_of_a_shape(shape, bytes_):
  assert hlo_text.size(shape) == bytes_


def test_what_lies_in_a_memory_on_the_chip_may_be_left_out():
  shape = "(f32[2]{0:T(128)S(1)}, f32[3]{0:T(128)}, u32[]{:S(2)})"
  assert hlo_text.size(shape, on_chip=False) == 12


def test_the_parts_of_a_tuple():
  shape = "((f32[3,4]{1,0:T(8,128)}), f32[1,4]{1,0:T(8,128)S(1)}, s32[]{:S(2)})"
  assert hlo_text.parts(shape) == [
    "(f32[3,4]{1,0:T(8,128)})",
    "f32[1,4]{1,0:T(8,128)S(1)}",
    "s32[]{:S(2)}",
  ]
