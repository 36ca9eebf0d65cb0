"""Algorithm 1, its gradient and Algorithm 2 as parts of an explanation."""

from collections.abc import Mapping

import numpy as np

from speedpaper_jax.explanations import batch_norm, references
from speedpaper_jax.explanations.inputs import Inputs
from speedpaper_jax.explanations.layout import Check, Part, Step, by_feature, counted, equal

_Values = Mapping[str, references.Arrays]


def algorithm_1(inputs: Inputs, values: _Values) -> Part:
  """The four lines of the transform.

  Args:
    inputs: the first mini-batch is normalised.
    values: what others compute, by their names.
  """
  x = inputs.x
  result = batch_norm.transform(x, inputs.scale, inputs.bias, inputs.epsilon)
  given = [
    counted("example", len(x)),
    Step("        x_i", by_feature(x)),
    Step("        γ", by_feature(inputs.scale)),
    Step("        β", by_feature(inputs.bias)),
  ]
  lines = [
    Step("line 1  μ_B = 1/m Σ_i x_i", by_feature(result.mean)),
    Step("        x_i - μ_B", by_feature(x - result.mean)),
    Step("line 2  σ²_B = 1/m Σ_i (x_i - μ_B)²", by_feature(result.variance)),
    Step("line 3  x̂_i = (x_i - μ_B)/√(σ²_B + ε)", by_feature(result.x_hat)),
    Step("line 4  y_i = γ x̂_i + β", by_feature(result.y), _beside(values, "y", result.y)),
  ]
  if not any("PyTorch" in name for name in values):
    lines.append(Step("PyTorch is not installed; where it is, it is compared with, too."))
  return Part("1  Algorithm 1: the batch normalizing transform", [given, lines])


def gradient(inputs: Inputs, values: _Values) -> Part:
  """The six equations of section 3.

  Args:
    inputs: the gradient at the first mini-batch is computed.
    values: what others compute, by their names.
  """
  d_y = inputs.d_y
  result = batch_norm.gradients(d_y, inputs.x, inputs.scale, inputs.epsilon)

  def total(formula: str, name: str) -> Step:
    value = getattr(result, name)
    return Step(formula, by_feature(value), _beside(values, name, value))

  return Part(
    "2  The gradient: the six equations of section 3",
    [
      [
        counted("example", len(d_y)),
        Step("    ∂ℓ/∂y_i, from the layers above", by_feature(d_y)),
      ],
      [total("(1) ∂ℓ/∂x̂_i = ∂ℓ/∂y_i · γ", "d_x_hat")],
      [
        total(
          "(2) ∂ℓ/∂σ²_B = Σ_i ∂ℓ/∂x̂_i · (x_i - μ_B)\n        · -½ (σ²_B + ε)^(-3/2)", "d_variance"
        )
      ],
      [
        Step("(3) ∂ℓ/∂μ_B = Σ_i ∂ℓ/∂x̂_i · -1/√(σ²_B + ε)", by_feature(result.d_mean_direct)),
        Step(
          "      + ∂ℓ/∂σ²_B · 1/m Σ_i -2(x_i - μ_B)", by_feature(result.d_mean_through_variance)
        ),
        total("      = the sum of both", "d_mean"),
      ],
      [
        Step("(4) ∂ℓ/∂x_i = ∂ℓ/∂x̂_i · 1/√(σ²_B + ε)", by_feature(result.d_x_direct)),
        Step("      + ∂ℓ/∂σ²_B · 2(x_i - μ_B)/m", by_feature(result.d_x_through_variance)),
        Step("      + ∂ℓ/∂μ_B · 1/m, for each i", by_feature(result.d_x_through_mean)),
        total("      = the sum of all three", "d_x"),
      ],
      [total("(5) ∂ℓ/∂γ = Σ_i ∂ℓ/∂y_i · x̂_i", "d_scale")],
      [total("(6) ∂ℓ/∂β = Σ_i ∂ℓ/∂y_i", "d_bias")],
    ],
  )


def algorithm_2(inputs: Inputs) -> Part:
  """Population statistics of several mini-batches, and inference with them."""
  x, scale, bias, epsilon = inputs.x, inputs.scale, inputs.bias, inputs.epsilon
  statistics = batch_norm.population(inputs.mini_batches)
  multiplier, shift = batch_norm.affine_map(statistics, scale, bias, epsilon)
  y = multiplier * x + shift
  layer = references.inference_by_this_package(inputs)
  return Part(
    "3  Algorithm 2: statistics of five mini-batches, and inference",
    [
      [
        counted("mini-batch", len(inputs.mini_batches)),
        Step("         μ_B", by_feature(statistics.means)),
        Step("         σ²_B", by_feature(statistics.variances)),
      ],
      [
        Step(
          "line 10  E[x] = E_B[μ_B]",
          by_feature(statistics.mean),
          [equal("beside BatchNorm's statistics", layer["mean"], statistics.mean)],
        ),
        Step(
          "         Var[x] = m/(m-1) · E_B[σ²_B]",
          by_feature(statistics.variance),
          [equal("beside BatchNorm's statistics", layer["var"], statistics.variance)],
        ),
      ],
      [
        Step("line 11  γ/√(Var[x] + ε)", by_feature(multiplier)),
        Step("         β - γ E[x]/√(Var[x] + ε)", by_feature(shift)),
        counted("example", len(x)),
        Step(
          "         y_i = γ/√(Var[x] + ε) · x_i\n             + (β - γ E[x]/√(Var[x] + ε))",
          by_feature(y),
          [equal("beside BatchNorm's in inference", layer["y"], y)],
        ),
        Step(
          "         y_i of part 1, in training",
          by_feature(batch_norm.transform(x, scale, bias, epsilon).y),
        ),
      ],
    ],
  )


def _beside(values: _Values, key: str, expected: np.ndarray) -> list[Check]:
  return [
    equal(f"beside {name}", arrays[key], expected)
    for name, arrays in values.items()
    if key in arrays
  ]
