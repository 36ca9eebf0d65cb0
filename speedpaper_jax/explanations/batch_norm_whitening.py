"""Whitening, which the paper leaves for batch normalization, on too few and on enough examples."""

import numpy as np

from speedpaper_jax.explanations import batch_norm
from speedpaper_jax.explanations.inputs import Inputs
from speedpaper_jax.explanations.layout import Part, Step, equal


def whitening(inputs: Inputs) -> Part:
  """Section 2's alternative, and section 3's reason against it."""
  m, features = inputs.wide.shape
  few, enough = batch_norm.covariance(inputs.wide), batch_norm.covariance(inputs.long)
  lost = features - (m - 1)
  infinite = np.isinf(few.inverse_roots).sum()
  normalized = batch_norm.transform(
    inputs.wide, np.ones(features), np.zeros(features), inputs.epsilon
  )
  variance = (normalized.x_hat**2).sum(0) / m
  expected = 1 - inputs.epsilon / (normalized.variance + inputs.epsilon)
  whitened = batch_norm.whiten(inputs.long)
  of_whitened = whitened.T @ whitened / len(whitened)
  return Part(
    "5  Whitening, the alternative of section 2: x̂ = Cov[x]^(-1/2) (x - E[x])",
    [
      [
        Step(f"{m} examples of {features} features: rank of Cov[x]", {"": np.array([few.rank])}),
        Step(
          "= m - 1, as Σ_i (x_i - E[x]) = 0",
          {"": np.array([m - 1])},
          [equal("", np.array(few.rank), m - 1)],
        ),
        Step("eigenvalues λ of Cov[x]", {"": few.eigenvalues}),
        Step(
          "1/√λ, eigenvalues of Cov[x]^(-1/2)",
          {"": few.inverse_roots},
          [equal(f"{lost} are infinite: there is none", infinite, lost)],
        ),
        Step(
          "each feature by itself: 1/m Σ_i x̂_i²",
          {"": variance},
          [equal("= 1 - ε/(σ²_B + ε)", variance, expected)],
        ),
      ],
      [
        Step(
          f"{len(whitened)} examples of {features} features: rank of Cov[x]",
          {"": np.array([enough.rank])},
          [equal("Cov[x̂] = the unit matrix", of_whitened, np.eye(features))],
        ),
      ],
    ],
  )
