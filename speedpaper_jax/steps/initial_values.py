"""Initial values of a run, drawn without a program that each process would compile anew.

JAX keeps no compiled program that calls Python, and kernels are drawn in Python. So these calls are
taken out of the program, and the rest of it is kept as every other.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

_CALL_OF_PYTHON = "pure_callback"


def draw(program: jax.stages.Traced) -> Any:
  """Runs a program without arguments that draws initial values.

  What draws nothing, as the network that the kernels are for, is left out.

  Args:
    program: traced. Its calls of Python are of the outermost level, and take keys: nothing that
      comes from another call.

  Returns:
    What the program returns, to the same bits.
  """
  jaxpr = program.jaxpr.jaxpr
  constants = dict(zip(jaxpr.constvars, program.jaxpr.consts, strict=True))
  calls: list[core.JaxprEqn] = []
  others: list[core.JaxprEqn] = []
  for equation in _needed(jaxpr.eqns, jaxpr.outvars):
    is_call = equation.primitive.name == _CALL_OF_PYTHON
    (calls if is_call else others).append(equation)

  # Step by step: the steps to all keys are the same few, and a program of all takes seconds.
  keys = [key for call in calls for key in call.invars]
  found = iter(_run(_needed(others, keys), constants, keys))
  drawn = [
    np.asarray(values)
    for call in calls
    for values in call.params["callback"](*(next(found) for _ in call.invars))
  ]

  @jax.jit
  def initial_values(*drawn: jax.Array) -> list[jax.Array]:
    known = dict(zip((values for call in calls for values in call.outvars), drawn, strict=True))
    return _run(_needed(others, jaxpr.outvars), constants | known, jaxpr.outvars)

  return jax.tree.unflatten(jax.tree.structure(program.out_info), initial_values(*drawn))


def _needed(equations: Sequence[core.JaxprEqn], outputs: Iterable[Any]) -> Sequence[core.JaxprEqn]:
  """Those that something of the outputs comes from, in their order."""
  variables = {each for each in outputs if not isinstance(each, core.Literal)}
  needed = []
  for equation in reversed(equations):
    if not variables.isdisjoint(equation.outvars):
      needed.append(equation)
      variables.update(each for each in equation.invars if not isinstance(each, core.Literal))
  return needed[::-1]


def _run(
  equations: Iterable[core.JaxprEqn], known: dict[Any, Any], outputs: Iterable[Any]
) -> list[jax.Array]:
  """Values of the outputs. JAX's own interpreter takes whole programs, whose form has changed."""
  values = dict(known)

  def read(each: Any) -> Any:
    return each.val if isinstance(each, core.Literal) else values[each]

  for equation in equations:
    results = equation.primitive.bind(*map(read, equation.invars), **equation.params)
    if not equation.primitive.multiple_results:
      results = [results]
    values.update(zip(equation.outvars, results, strict=True))
  return [read(each) for each in outputs]
