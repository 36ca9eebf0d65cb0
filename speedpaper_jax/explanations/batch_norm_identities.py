"""What the Batch Normalization paper says of its transform, each with left and right side."""

from collections.abc import Sequence

import numpy as np

from speedpaper_jax.explanations import batch_norm, references
from speedpaper_jax.explanations.inputs import Inputs
from speedpaper_jax.explanations.layout import Check, Part, Step, by_feature, equal

_FACTOR = 10.0
_EPSILONS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_LEARNING_RATE = 0.1
_UPDATES = (0, 1, 2, 10, 100)
_LEAST_CHANGE = 1e-6


def identities(inputs: Inputs) -> Part:
  """Those of sections 2, 3 and 3.3."""
  return Part(
    "4  What the paper says of it: left side, right side, difference",
    [
      moments(inputs),
      recovered_input(inputs),
      dependence_on_the_batch(inputs),
      scale_of_the_weights(inputs),
      second_term_of_equation_3(inputs),
      growing_bias(inputs),
    ],
  )


def moments(inputs: Inputs) -> Sequence[Step]:
  """Mean and variance of x̂ (section 3)."""
  result = batch_norm.transform(inputs.x, inputs.scale, inputs.bias, inputs.epsilon)
  sums = result.x_hat.sum(0)
  squares = (result.x_hat**2).sum(0) / len(inputs.x)
  expected = 1 - inputs.epsilon / (result.variance + inputs.epsilon)
  return [
    Step("x̂ has mean 0, and but for ε variance 1"),
    Step("  Σ_i x̂_i", by_feature(sums), [equal("= 0", sums, 0.0)]),
    Step("  1/m Σ_i x̂_i²", by_feature(squares), decimals=6),
    Step("  = 1 - ε/(σ²_B + ε)", by_feature(expected), [equal("", squares, expected)], decimals=6),
  ]


def recovered_input(inputs: Inputs) -> Sequence[Step]:
  """The transform can be the identity (section 3)."""
  x, epsilon = inputs.x, inputs.epsilon
  statistics = batch_norm.transform(x, inputs.scale, inputs.bias, epsilon)
  mean, variance = statistics.mean, statistics.variance
  y = batch_norm.transform(x, np.sqrt(variance + epsilon), mean, epsilon).y
  without_epsilon = batch_norm.transform(x, np.sqrt(variance), mean, epsilon).y
  return [
    Step("γ = √(σ²_B + ε) and β = μ_B give the input back (the paper has √Var[x], without ε)"),
    Step("  y_i", by_feature(y)),
    Step("  = x_i", by_feature(x), [equal("", y, x)]),
    Step("  y_i - x_i with γ = √σ²_B", by_feature(without_epsilon - x), decimals=6),
  ]


def dependence_on_the_batch(inputs: Inputs) -> Sequence[Step]:
  """An example's output changes with the other examples (section 3)."""
  # Reflected, x_m is as far from x_1 as before; μ_B is not, so that x̂_1 cannot stay what it was.
  changed = inputs.x.copy()
  changed[-1] = 2 * changed[0] - changed[-1]
  before, after = (
    batch_norm.transform(x, inputs.scale, inputs.bias, inputs.epsilon).y[0]
    for x in (inputs.x, changed)
  )
  change = float(np.abs(after - before).min())
  return [
    Step("An example's output depends on the other examples"),
    Step("  y_1", by_feature(before)),
    Step(
      "  y_1 with x_m reflected, 2x_1 - x_m",
      by_feature(after),
      [Check("", change, _LEAST_CHANGE, is_change=True)],
    ),
  ]


def scale_of_the_weights(inputs: Inputs) -> Sequence[Step]:
  """BN((aW)u) = BN(Wu) and what follows for derivatives (section 3.3), exact for ε = 0."""
  plain = references.layer_and_jacobians(inputs, 1.0)
  scaled = references.layer_and_jacobians(inputs, _FACTOR)
  d_weights = plain["d_weights"] / _FACTOR
  own = np.arange(len(inputs.scale))

  def layer(factor: float, epsilon: float) -> np.ndarray:
    x = inputs.u @ (factor * inputs.weights).T
    return batch_norm.transform(x, inputs.scale, inputs.bias, epsilon).y

  with_epsilon = layer(_FACTOR, inputs.epsilon)
  with_smaller_epsilon = layer(1, inputs.epsilon / _FACTOR**2)
  differences = [np.abs(layer(_FACTOR, each) - layer(1, each)).max() for each in _EPSILONS]
  return [
    Step(f"The scale of the weights does not matter: x = (aW)u, a = {_FACTOR:g}, ε = 0"),
    Step("  u, of each example", {f"input {n}": row for n, row in enumerate(inputs.u.T, start=1)}),
    Step("  W, of each input", by_feature(inputs.weights.T)),
    Step("  BN((aW)u)", by_feature(scaled["y"])),
    Step("  = BN(Wu)", by_feature(plain["y"]), [equal("", scaled["y"], plain["y"])]),
    Step("  ∂BN((aW)u)/∂u, of y_1 by its own u", by_feature(scaled["d_u"][0, :, 0].T)),
    Step(
      "  = ∂BN(Wu)/∂u",
      by_feature(plain["d_u"][0, :, 0].T),
      [equal("all of them", scaled["d_u"], plain["d_u"])],
    ),
    Step(
      "  ∂BN((aW)u)/∂(aW), of y_1 by its own row",
      by_feature(scaled["d_weights"][0, own, own].T),
    ),
    Step(
      "  = 1/a · ∂BN(Wu)/∂W",
      by_feature(d_weights[0, own, own].T),
      [equal("all of them", scaled["d_weights"], d_weights)],
    ),
    Step("  with ε: BN((aW)u)", by_feature(with_epsilon), decimals=6),
    Step(
      "  = BN(Wu) with ε/a² in the place of ε",
      by_feature(with_smaller_epsilon),
      [equal("", with_epsilon, with_smaller_epsilon)],
      decimals=6,
    ),
    Step(
      "  |BN((aW)u) - BN(Wu)| vanishes with ε",
      {
        "ε": np.array([f"{each:.0e}" for each in _EPSILONS]),
        "largest": np.array([f"{each:.0e}" for each in differences]),
      },
    ),
  ]


def second_term_of_equation_3(inputs: Inputs) -> Sequence[Step]:
  """The deviations sum to zero."""
  result = batch_norm.gradients(inputs.d_y, inputs.x, inputs.scale, inputs.epsilon)
  term = result.d_mean_through_variance
  return [
    Step("The second term of equation (3) is zero, since Σ_i (x_i - μ_B) is"),
    Step("  ∂ℓ/∂σ²_B · 1/m Σ_i -2(x_i - μ_B)", by_feature(term), [equal("= 0", term, 0.0)]),
  ]


def growing_bias(inputs: Inputs) -> Sequence[Step]:
  """Gradient descent that ignores the normalization does not learn (section 2)."""
  u = inputs.u[:, 0]
  ignored, followed = (
    batch_norm.learn_bias(u, inputs.targets, _LEARNING_RATE, max(_UPDATES), through_mean)
    for through_mean in (False, True)
  )
  growth = float(np.diff(ignored.bias).min())
  updates = np.array(_UPDATES)
  return [
    Step("The gradient must go through E[x]: x = u + b, x̂ = x - E[x], ℓ = ½ Σ_i (x̂_i - t_i)²"),
    Step("  of each example", {"u": u, "t": inputs.targets}),
    Step("", {"update": updates}),
    Step(
      f"  b ← b - {_LEARNING_RATE:g} Σ_i ∂ℓ/∂x̂_i, E[x] held fixed",
      {"b": ignored.bias[updates], "ℓ": ignored.loss[updates]},
      [
        Check("b grows, by at least", growth, _LEAST_CHANGE, is_change=True),
        equal("and ℓ stays", ignored.loss, ignored.loss[0]),
      ],
    ),
    Step(
      "  the same with all of ∂ℓ/∂b, which is 0",
      {"b": followed.bias[updates], "ℓ": followed.loss[updates]},
      [equal("b stays", followed.bias, 0.0)],
    ),
  ]
