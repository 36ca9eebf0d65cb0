"""What a compiled training step does on each chip: memory, operations, collectives."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable
from typing import Any

from speedpaper_jax.compilation import hlo_text
from speedpaper_jax.compilation.hlo_text import Instruction

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-broadcast",
  "collective-permute",
)

# They give names to what is there already.
_WITHOUT_TRAFFIC = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while")

_PATH = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
# Of a path: the network's own part of it, "jvp(BNInception)", and what is no layer, "jit(relu)".
_NETWORK = re.compile(r"(transpose\()?(jvp\()?[A-Z]\w*\)*$")
_CALL = re.compile(r"\w*\(.*\)$|checkpoint$|rematted_computation$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
  """An exchange between chips.

  Attributes:
    kind: one of `KINDS`.
    size: bytes of the whole array that it gives or, for a reduce-scatter, takes, on one chip; of
      all its arrays where the compiler has joined several exchanges.
    members: chips that take part together.
    of_batch_norm: whether all that it exchanges belongs to batch normalizations: statistics and
      their gradients, or gradients of γ and β alone.
    times: how often it runs in a step; a loop of micro-batches repeats it.
  """

  kind: str
  size: int
  members: int
  of_batch_norm: bool
  times: int = 1


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one chip.

  Attributes:
    arguments: state and batch.
    temporaries: what the program needs besides, most of it activations.
    outputs: results that do not take the place of an argument.
    code: of the program.
  """

  arguments: int
  temporaries: int
  outputs: int
  code: int

  @property
  def total(self) -> int:
    """All together."""
    return self.arguments + self.temporaries + self.outputs + self.code


@dataclasses.dataclass(frozen=True)
class Cost:
  """What the compiler expects of an instruction.

  Attributes:
    cycles: in a step, on one core.
    name: of the instruction, as in the program's text.
    output: its shape, without layouts: `bf16[32,112,112,64]`; the largest of several.
    direction: "forward" or "backward" through the network, or "" outside of it.
    layer: path of the modules that it is of, such as "inception_3a/conv_3x3/conv"; of a fusion,
      that of what it gives.
    operation: the primitive, such as "conv_general_dilated"; of a fusion, its last.
  """

  cycles: int
  name: str
  output: str
  direction: str
  layer: str
  operation: str


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step, as one chip sees it.

  Attributes:
    flops: floating-point operations, as XLA counts them; a multiply-add is two.
    memory_traffic: bytes that its instructions read from the chip's main memory and write there,
      each array once and whole. What stays in a memory on the chip does not count.
    costs: the compiler's own estimates of its instructions, the highest first; it may make none.
    memory: what lies in the chip's main memory.
    collectives: in the order of the program's text.
  """

  flops: float
  memory_traffic: float
  costs: tuple[Cost, ...]
  memory: Memory
  collectives: tuple[Collective, ...]

  @property
  def cycles(self) -> int | None:
    """Of all instructions together; None where the compiler makes no estimates."""
    return sum(cost.cycles for cost in self.costs) if self.costs else None


def analyse(compiled: Any, chips: int, accumulation_steps: int = 1) -> Program:
  """Reads a program.

  Args:
    compiled: what `jax.jit(…).lower(…).compile()` returns.
    chips: that it was compiled for.
    accumulation_steps: micro-batches. XLA counts the operations of their loop once, and nearly all
      are in it.
  """
  memory = compiled.memory_analysis()
  instructions = list(hlo_text.instructions(compiled.as_text()))
  return Program(
    flops=compiled.cost_analysis()["flops"] * accumulation_steps,
    memory_traffic=memory_traffic(instructions),
    costs=tuple(costs(instructions)),
    memory=Memory(
      arguments=memory.argument_size_in_bytes,
      temporaries=memory.temp_size_in_bytes,
      outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
      code=memory.generated_code_size_in_bytes,
    ),
    collectives=tuple(collectives(instructions, chips)),
  )


def memory_traffic(instructions: Iterable[Instruction]) -> int:
  """Bytes between a chip and its main memory in a step."""
  shapes: dict[str, str] = {}
  total = 0
  for instruction in instructions:
    shapes[instruction.name] = instruction.shape
    operation = instruction.operation
    if operation in _WITHOUT_TRAFFIC or operation.endswith("-done"):
      continue
    if operation == "copy-start":
      moved = hlo_text.size(instruction.shape, on_chip=False)  # names source and destination
    elif operation == "slice-start":
      source, destination = hlo_text.parts(instruction.shape)[:2]
      sides = sum(hlo_text.size(side, on_chip=False) > 0 for side in (source, destination))
      moved = sides * hlo_text.size(destination)
    else:
      arrays = [instruction.shape, *(shapes.get(name, "") for name in instruction.operands)]
      moved = sum(hlo_text.size(shape, on_chip=False) for shape in arrays)
    total += moved * instruction.times
  return total


def costs(instructions: Iterable[Instruction]) -> list[Cost]:
  """The compiler's estimates, the highest first; none where it makes none."""
  found = []
  for instruction in instructions:
    cycles = [int(each) for each in _CYCLES.findall(instruction.attributes)]
    if cycles:
      path = _PATH.search(instruction.attributes)
      found.append(
        Cost(
          sum(cycles) * instruction.times,
          instruction.name,
          hlo_text.largest(instruction.shape),
          *_place("" if path is None else path[1]),
        )
      )
  return sorted(found, key=lambda cost: -cost.cycles)


def _place(path: str) -> tuple[str, str, str]:
  """Direction, layer and operation of a path such as "jit(step)/jvp(Network)/conv1/conv/mul"."""
  *parts, operation = path.partition(":")[0].split("/")
  networks = [index for index, part in enumerate(parts) if _NETWORK.match(part)]
  if not networks:
    return "", "", operation
  first = networks[0]
  direction = "backward" if "transpose(" in parts[first] else "forward"
  # The gradient of a layer that is computed anew has the path of the forward pass behind its own.
  end = networks[1] if len(networks) > 1 else len(parts)
  layer = [part for part in parts[first + 1 : end] if not _CALL.match(part)]
  return direction, "/".join(layer), operation


def collectives(instructions: Iterable[Instruction], chips: int) -> list[Collective]:
  """The exchanges; start and end of an asynchronous one are one.

  Args:
    instructions: of a program.
    chips: that it was compiled for; the members where a collective does not list them.
  """
  found = []
  attributes: dict[str, str] = {}
  for instruction in itertools.chain.from_iterable((one, *one.inner) for one in instructions):
    attributes[instruction.name] = instruction.attributes
    kind = instruction.operation.removesuffix("-start")
    if kind not in KINDS:
      continue
    members = _members(instruction.attributes, chips)
    shape = instruction.shape
    if instruction.operation == f"{kind}-start" and kind != "all-reduce":
      shape = hlo_text.parts(shape)[1]  # operands come first
    size = hlo_text.size(shape)
    found.append(
      Collective(
        kind,
        size * members if kind == "reduce-scatter" else size,
        members,
        _is_of_batch_norm(instruction.attributes)
        and not any(_is_of_another(attributes.get(name, "")) for name in instruction.operands),
        instruction.times,
      )
    )
  return found


def _members(attributes: str, chips: int) -> int:
  """How many chips exchange with each other, of XLA's three ways to list them."""
  if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
    return listed[1].count(",") + 1
  if rows := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
    return int(rows[1])
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", attributes):
    lengths = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    return math.prod(int(lengths[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
  return chips


def _is_of_batch_norm(attributes: str) -> bool:
  """By the layers' path; where XLA joins exchanges it joins their paths by colons."""
  path = _PATH.search(attributes)
  return path is not None and all("/batch_norm/" in part for part in path[1].split(":"))


def _is_of_another(attributes: str) -> bool:
  """Of another layer; a TPU's compiler gives exchanges that it joins the path of the first."""
  path = _PATH.search(attributes)
  return path is not None and bool(_place(path[1])[1]) and not _is_of_batch_norm(attributes)
