"""Reads the text of a compiled XLA program, `compiled.as_text()`: one chip's instructions."""

import dataclasses
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
  r"\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<operation>[a-z][a-z\-]*)\((?P<call>.*)"
)
_ARRAY = re.compile(r"\b([a-z]+[0-9][a-z0-9]*|pred)\[([0-9,]*)\](\{[^}]*\})?")
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_CALLED = re.compile(r"\bcalls=%?([\w.\-]+)")
_START = "async-collective-start"  # how a TPU's compiler names such fusions
_TIMES = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: of its result.
    shape: of its result, with layouts: `f32[2,3]{1,0}`, or a tuple of such.
    operation: such as "all-reduce".
    operands: names, without those of computations.
    attributes: what follows the operands.
    times: how often it runs in one run of the program, where loops say how often they go round.
    inner: of a fusion that only starts a collective, which goes on beside others: what it holds.
  """

  name: str
  shape: str
  operation: str
  operands: tuple[str, ...]
  attributes: str
  times: int = 1
  inner: tuple["Instruction", ...] = ()


def instructions(text: str) -> Iterator[Instruction]:
  """Those that run one by one: of the program itself and of its loops' bodies.

  What fusions, reductions and other instructions call is part of them.
  """
  computations = list(_computations(text))
  lines_of = {name: lines for _, name, lines in computations}
  times: dict[str, int] = {}
  found = []
  # Callees stand before their callers: entry and outer loops come last.
  for is_entry, name, lines in reversed(computations):
    repeats = 1 if is_entry else times.get(name)
    if repeats is None:
      continue
    for line in reversed(lines):
      instruction = _read(line, repeats)
      if instruction is None:
        continue
      if instruction.operation == "while":
        body, trips = _BODY.search(line), _TIMES.search(line)
        if body is not None:
          times[body[1]] = repeats * (int(trips[1]) if trips else 1)
      if instruction.name.startswith(_START) and (called := _CALLED.search(line)):
        inner = (_read(inner_line, repeats) for inner_line in lines_of.get(called[1], ()))
        instruction = dataclasses.replace(instruction, inner=tuple(filter(None, inner)))
      found.append(instruction)
  return reversed(found)


def _computations(text: str) -> Iterator[tuple[bool, str, list[str]]]:
  header: re.Match[str] | None = None
  lines: list[str] = []
  for line in text.splitlines():
    if header is None:
      header, lines = _COMPUTATION.match(line), []
    elif line.startswith("}"):
      yield header["entry"] is not None, header["name"], lines
      header = None
    else:
      lines.append(line)


def _read(line: str, times: int) -> Instruction | None:
  match = _INSTRUCTION.match(line)
  if match is None:
    return None
  operands, _, attributes = match["call"].partition(")")
  return Instruction(
    match["name"],
    match["shape"],
    match["operation"],
    tuple(re.findall(r"%([\w.\-]+)", operands)),
    attributes,
    times,
  )


def size(shape: str, on_chip: bool = True) -> int:
  """Bytes of an array, or of all arrays of a tuple.

  Args:
    shape: such as `(f32[2,3]{1,0:T(8,128)S(1)}, u32[])`.
    on_chip: whether those count that lie in a memory on the chip (`S(1)` and higher) and not in
      the chip's main memory.
  """
  return sum(
    _bytes(dtype, dimensions)
    for dtype, dimensions, layout in _ARRAY.findall(shape)
    if on_chip or "S(" not in layout
  )


def largest(shape: str) -> str:
  """The largest array of a shape, without its layout: `(f32[2]{0}, u32[])` → `f32[2]`."""
  arrays = [(dtype, dimensions) for dtype, dimensions, _ in _ARRAY.findall(shape)]
  return "{}[{}]".format(*max(arrays, key=lambda array: _bytes(*array))) if arrays else shape


def _bytes(dtype: str, dimensions: str) -> int:
  # f32, s8, c64; a float8 names its format behind its width: f8e4m3fn.
  width = re.search(r"\d+", dtype)
  bits = 8 if width is None else int(width[0])  # pred takes a byte
  return math.prod(int(length) for length in dimensions.split(",") if length) * bits // 8


def parts(shape: str) -> list[str]:
  """The parts of a tuple: `(f32[2], (f32[3], u32[]))` → `f32[2]`, `(f32[3], u32[])`."""
  found, depth, begin = [], 0, 1
  for position, character in enumerate(shape):
    if character in "([{":
      depth += 1
    elif character in ")]}":
      depth -= 1
    if (character == "," and depth == 1) or (character == ")" and depth == 0):
      found.append(shape[begin:position].strip())
      begin = position + 1
  return found
