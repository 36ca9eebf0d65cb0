"""The equations of Batch Normalization (arXiv 1502.03167), one NumPy line each, as printed.

Shapes: m examples of C features are [m, C], what is of a feature is [C]. `d_a` stands for ∂ℓ/∂a.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Transform:
  """What the four lines of Algorithm 1 compute.

  Attributes:
    mean: μ_B, [C].
    variance: σ²_B, [C], the biased one.
    x_hat: x̂, [m, C].
    y: [m, C].
  """

  mean: np.ndarray
  variance: np.ndarray
  x_hat: np.ndarray
  y: np.ndarray


def transform(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, epsilon: float) -> Transform:
  """Algorithm 1, the batch normalizing transform.

  Args:
    x: [m, C].
    scale: γ, [C].
    bias: β, [C].
    epsilon: added to the variance.
  """
  m = len(x)
  mean = x.sum(0) / m
  variance = ((x - mean) ** 2).sum(0) / m
  x_hat = (x - mean) / np.sqrt(variance + epsilon)
  y = scale * x_hat + bias
  return Transform(mean, variance, x_hat, y)


@dataclasses.dataclass(frozen=True)
class Gradients:
  """What the six equations of section 3 compute, (3) and (4) with their terms apart.

  Attributes:
    d_x_hat: (1), [m, C].
    d_variance: (2), [C].
    d_mean_direct: the first term of (3), [C].
    d_mean_through_variance: its second term, [C].
    d_x_direct: the first term of (4), [m, C].
    d_x_through_variance: its second term, [m, C].
    d_x_through_mean: its third term, [C], the same for every example.
    d_scale: (5), [C].
    d_bias: (6), [C].
  """

  d_x_hat: np.ndarray
  d_variance: np.ndarray
  d_mean_direct: np.ndarray
  d_mean_through_variance: np.ndarray
  d_x_direct: np.ndarray
  d_x_through_variance: np.ndarray
  d_x_through_mean: np.ndarray
  d_scale: np.ndarray
  d_bias: np.ndarray

  @property
  def d_mean(self) -> np.ndarray:
    """(3), [C]."""
    return self.d_mean_direct + self.d_mean_through_variance

  @property
  def d_x(self) -> np.ndarray:
    """(4), [m, C]."""
    return self.d_x_direct + self.d_x_through_variance + self.d_x_through_mean


def gradients(d_y: np.ndarray, x: np.ndarray, scale: np.ndarray, epsilon: float) -> Gradients:
  """The six equations of section 3.

  Args:
    d_y: ∂ℓ/∂y, [m, C].
    x: [m, C].
    scale: γ, [C].
    epsilon: added to the variance.
  """
  m = len(x)
  forward = transform(x, scale, np.zeros_like(scale), epsilon)
  mean, variance, x_hat = forward.mean, forward.variance, forward.x_hat

  d_x_hat = d_y * scale
  d_variance = (d_x_hat * (x - mean) * -0.5 * (variance + epsilon) ** -1.5).sum(0)
  d_mean_direct = (d_x_hat * -1 / np.sqrt(variance + epsilon)).sum(0)
  d_mean_through_variance = d_variance * (-2 * (x - mean)).sum(0) / m
  d_mean = d_mean_direct + d_mean_through_variance
  return Gradients(
    d_x_hat=d_x_hat,
    d_variance=d_variance,
    d_mean_direct=d_mean_direct,
    d_mean_through_variance=d_mean_through_variance,
    d_x_direct=d_x_hat * 1 / np.sqrt(variance + epsilon),
    d_x_through_variance=d_variance * 2 * (x - mean) / m,
    d_x_through_mean=d_mean * 1 / m,
    d_scale=(d_y * x_hat).sum(0),
    d_bias=d_y.sum(0),
  )


@dataclasses.dataclass(frozen=True)
class Population:
  """What Algorithm 2 takes from several mini-batches of size m.

  Attributes:
    means: μ_B of each of them, [batches, C].
    variances: σ²_B of each of them, [batches, C].
    mean: E[x], [C].
    variance: Var[x], [C].
  """

  means: np.ndarray
  variances: np.ndarray
  mean: np.ndarray
  variance: np.ndarray


def population(mini_batches: np.ndarray) -> Population:
  """Algorithm 2, line 10, of `mini_batches`, [batches, m, C]."""
  m = mini_batches.shape[1]
  means = mini_batches.sum(1) / m
  variances = ((mini_batches - means[:, None]) ** 2).sum(1) / m
  return Population(means, variances, means.mean(0), m / (m - 1) * variances.mean(0))


def affine_map(
  statistics: Population, scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
  """Algorithm 2, line 11: what x is multiplied with, and what is added then; both [C]."""
  multiplier = scale / np.sqrt(statistics.variance + epsilon)
  return multiplier, bias - multiplier * statistics.mean


@dataclasses.dataclass(frozen=True)
class BiasUpdates:
  """What gradient descent on a bias does, before each of its steps and after the last.

  Attributes:
    bias: b, [steps + 1].
    loss: [steps + 1].
  """

  bias: np.ndarray
  loss: np.ndarray


def learn_bias(
  u: np.ndarray, targets: np.ndarray, learning_rate: float, steps: int, through_mean: bool
) -> BiasUpdates:
  """Gradient descent on the bias of section 2: x = u + b, x̂ = x - E[x], ℓ = ½ Σ (x̂ - t)².

  Args:
    u: the layer's input, [m].
    targets: t, [m].
    learning_rate: of the descent.
    steps: how many.
    through_mean: whether the gradient takes into account that E[x] depends on b.
  """
  b, biases, losses = 0.0, [], []
  for step in range(steps + 1):
    x = u + b
    x_hat = x - x.mean()
    biases.append(b)
    losses.append(0.5 * ((x_hat - targets) ** 2).sum())
    if step < steps:
      d_x = x_hat - targets  # ∂ℓ/∂x̂
      if through_mean:
        d_x = d_x - d_x.mean()
      b -= learning_rate * d_x.sum()
  return BiasUpdates(np.array(biases), np.array(losses))


@dataclasses.dataclass(frozen=True)
class Covariance:
  """The covariance matrix of a mini-batch, as whitening needs it.

  Attributes:
    rank: how many eigenvalues differ from zero by more than rounding.
    eigenvalues: [C], ascending; those that do not are zero.
    eigenvectors: [C, C], one a column.
  """

  rank: int
  eigenvalues: np.ndarray
  eigenvectors: np.ndarray

  @property
  def inverse_roots(self) -> np.ndarray:
    """λ^(-1/2) of each eigenvalue, [C]; infinite where there is none."""
    with np.errstate(divide="ignore"):
      return 1 / np.sqrt(self.eigenvalues)


def covariance(x: np.ndarray) -> Covariance:
  """Cov[x] = E[(x - E[x])(x - E[x])ᵀ] of `x`, [m, C]."""
  centred = x - x.mean(0)
  eigenvalues, eigenvectors = np.linalg.eigh(centred.T @ centred / len(x))
  rounding = eigenvalues[-1] * x.shape[1] * np.finfo(x.dtype).eps
  eigenvalues = np.where(eigenvalues > rounding, eigenvalues, 0)
  return Covariance(int((eigenvalues > 0).sum()), eigenvalues, eigenvectors)


def whiten(x: np.ndarray) -> np.ndarray:
  """Section 2's Cov[x]^(-1/2) (x - E[x]) of `x`, [m, C], whose covariance has full rank."""
  matrix = covariance(x)
  root = matrix.eigenvectors * matrix.inverse_roots @ matrix.eigenvectors.T
  return (x - x.mean(0)) @ root
