"""Initial values of a run, drawn without a program that each process would compile anew.

JAX keeps no compiled program that calls Python, and kernels are drawn in Python. So these calls are
taken out of the program, and the rest of it is kept as every other.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

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
  whole = program.jaxpr
  needed, _ = partial_eval.dce_jaxpr(whole.jaxpr, [True] * len(whole.jaxpr.outvars))
  calls = [each for each in needed.eqns if each.primitive.name == _CALL_OF_PYTHON]
  others = [each for each in needed.eqns if each.primitive.name != _CALL_OF_PYTHON]

  def part(inputs: Sequence[core.Var], outputs: Sequence[Any]) -> core.ClosedJaxpr:
    jaxpr = needed.replace(invars=inputs, outvars=outputs, eqns=others)
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(outputs), instantiate=True)
    return core.ClosedJaxpr(used, whole.consts)

  # Step by step: the steps to all keys are the same few, and a program of all takes seconds.
  keys = iter(core.jaxpr_as_fun(part([], [key for call in calls for key in call.invars]))())
  drawn = [
    np.asarray(values)
    for call in calls
    for values in call.params["callback"](*(next(keys) for _ in call.invars))
  ]
  remaining = part([values for call in calls for values in call.outvars], needed.outvars)

  @jax.jit
  def initial_values(*drawn: jax.Array) -> Sequence[jax.Array]:
    values: Sequence[jax.Array] = core.jaxpr_as_fun(remaining)(*drawn)
    return values

  return jax.tree.unflatten(jax.tree.structure(program.out_info), initial_values(*drawn))
