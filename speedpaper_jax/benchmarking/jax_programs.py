"""Compiled programs of JAX's as sides, whoever wrote them."""

from typing import Any

import jax

from speedpaper_jax.benchmarking.work import Facts, Side


def training_side(step: jax.stages.Compiled, state: Any, batch: Any, sizes: list[int]) -> Side:
  """Of `step(state, batch) → state, metrics`, which donates the state."""

  def take(count: int) -> None:
    nonlocal state
    for _ in range(count):
      state, _ = step(state, batch)
    jax.block_until_ready(state)

  return Side(take, peak_memory, facts(step, sizes))


def inference_side(
  program: jax.stages.Compiled, variables: Any, batch: Any, sizes: list[int]
) -> Side:
  """Of `program(variables, batch)`."""

  def take(count: int) -> None:
    for _ in range(count):
      answers = program(variables, batch)
    jax.block_until_ready(answers)

  return Side(take, peak_memory, facts(program, sizes))


def facts(program: jax.stages.Compiled, sizes: list[int]) -> Facts:
  """What XLA counts of a program."""
  costs: Any = program.cost_analysis() or {}
  return Facts(sizes, jax.devices()[0].device_kind, costs.get("flops"), costs.get("bytes accessed"))


def sizes(params: Any) -> list[int]:
  """Of each array, ascending."""
  return sorted(leaf.size for leaf in jax.tree.leaves(params))


def peak_memory() -> float | None:
  """See `Side`."""
  statistics = jax.devices()[0].memory_stats() or {}
  return statistics.get("peak_bytes_in_use")
