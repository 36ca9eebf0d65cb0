"""Options of Optax's optimisers, each under the optimiser's name and with Optax's own word for it.

One that is not here is taken with Optax's defaults, or with a section of its name that a config
file gives it. To set its options on the command line, put it here.
"""

from collections.abc import Mapping
from typing import Any

from speedpaper_jax.config import changes
from speedpaper_jax.config.field import Field
from speedpaper_jax.files.rules import ABOVE_ZERO, AT_LEAST_ZERO, FRACTION_BELOW_ONE, SWITCH, Rule

_MOMENTUM = Field(0.9, FRACTION_BELOW_ONE, changes.MOMENTUM)  # 0 for none


def _option(default: Any, rule: Rule) -> Field:
  return Field(default, rule, changes.OPTIMIZER_OPTION)


OPTIONS: Mapping[str, Mapping[str, Field]] = {
  "sgd": {"momentum": _MOMENTUM, "nesterov": _option(False, SWITCH)},
  # TensorFlow's: ε inside the square root, the accumulator starts at one, the rate is applied
  # before the momentum. The papers' "RMSProp with decay of 0.9 and ε = 1.0" is this one.
  "rmsprop": {
    "decay": _option(0.9, FRACTION_BELOW_ONE),
    "eps": _option(1.0, ABOVE_ZERO),
    "initial_scale": _option(1.0, AT_LEAST_ZERO),
    "eps_in_sqrt": _option(True, SWITCH),
    "momentum": _MOMENTUM,
  },
  "adam": {
    "b1": _option(0.9, FRACTION_BELOW_ONE),
    "b2": _option(0.999, FRACTION_BELOW_ONE),
    "eps": _option(1e-8, ABOVE_ZERO),
  },
  "adagrad": {
    "initial_accumulator_value": _option(0.1, AT_LEAST_ZERO),
    "eps": _option(1e-7, ABOVE_ZERO),
  },
}
