"""The paper's equations in NumPy, against other ways to compute the same."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from speedpaper_jax.explanations import batch_norm

few_examples = settings(derandomize=True, database=None, deadline=None, max_examples=20)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 9)
epsilons = st.sampled_from([0, 1e-3, 1])


def random(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


class TestAlgorithm1:
  def test_by_hand(self):
    result = batch_norm.transform(
      np.array([[1.0], [3.0], [5.0], [7.0]]), np.array([2.0]), np.array([10.0]), 4.0
    )
    assert_array_equal(result.mean, [4])
    assert_array_equal(result.variance, [5])  # (9 + 1 + 1 + 9) / 4: biased
    assert_allclose(result.x_hat.ravel(), [-1, -1 / 3, 1 / 3, 1])  # √(5 + 4) = 3
    assert_allclose(result.y.ravel(), [8, 10 - 2 / 3, 10 + 2 / 3, 12])

  @few_examples
  @given(seed=seeds, m=sizes, epsilon=epsilons)
  def test_moments(self, seed, m, epsilon):
    x = 3 + random(seed, m, 2)
    result = batch_norm.transform(x, np.full(2, 2.0), np.full(2, -1.0), epsilon)
    assert_allclose(result.mean, x.mean(0))
    assert_allclose(result.variance, x.var(0))
    assert_allclose(result.x_hat.sum(0), 0, atol=1e-10)
    assert_allclose(result.x_hat.var(0), 1 - epsilon / (x.var(0) + epsilon))
    assert_allclose(result.y.mean(0), -1, atol=1e-10)


class TestGradient:
  @few_examples
  @given(seed=seeds, m=sizes)
  def test_against_differences_of_the_loss(self, seed, m):
    x, d_y = random(seed, m, 2), random(seed + 1, m, 2)
    scale, bias = random(seed + 2, 2), random(seed + 3, 2)

    def loss(x, scale, bias):
      return (d_y * batch_norm.transform(x, scale, bias, 0.1).y).sum()

    def slopes(position):
      arguments = [x, scale, bias]
      result = np.zeros_like(arguments[position])
      for index in np.ndindex(result.shape):
        values = []
        for change in (1e-5, -1e-5):
          moved = arguments[position].copy()
          moved[index] += change
          values.append(loss(*arguments[:position], moved, *arguments[position + 1 :]))
        result[index] = (values[0] - values[1]) / 2e-5
      return result

    result = batch_norm.gradients(d_y, x, scale, 0.1)
    for position, gradient in enumerate((result.d_x, result.d_scale, result.d_bias)):
      assert_allclose(gradient, slopes(position), atol=1e-7)

  @few_examples
  @given(seed=seeds, m=sizes, epsilon=epsilons)
  def test_against_the_equations_in_one(self, seed, m, epsilon):
    x, d_y, scale = random(seed, m, 2), random(seed + 1, m, 2), random(seed + 2, 2)
    forward = batch_norm.transform(x, scale, np.zeros(2), epsilon)
    std, x_hat = np.sqrt(forward.variance + epsilon), forward.x_hat
    d_x = scale / (m * std) * (m * d_y - d_y.sum(0) - x_hat * (d_y * x_hat).sum(0))
    actual = batch_norm.gradients(d_y, x, scale, epsilon).d_x
    assert_allclose(actual, d_x, atol=1e-10 * np.abs(1 / std).max() ** 2)

  @few_examples
  @given(seed=seeds, m=sizes)
  def test_nothing_is_gained_by_shifting_the_batch_nor_without_epsilon_by_scaling_it(self, seed, m):
    x, d_y = random(seed, m, 2), random(seed + 1, m, 2)
    d_x = batch_norm.gradients(d_y, x, np.ones(2), 0.0).d_x
    rounding = 1e-12 / x.var(0).min()
    assert_allclose(d_x.sum(0), 0, atol=rounding)
    assert_allclose((d_x * x).sum(0), 0, atol=rounding)


class TestAlgorithm2:
  def test_the_variance_of_all_mini_batches_is_the_populations(self):
    values = [1.0, 2.0, 4.0, 9.0]
    mini_batches = np.array(list(itertools.product(values, repeat=3)))[..., None]
    statistics = batch_norm.population(mini_batches)
    assert_allclose(statistics.mean, np.mean(values))
    assert_allclose(statistics.variance, np.var(values))
    assert_allclose(statistics.variances.mean(0), np.var(values) * 2 / 3)  # (m - 1)/m

  def test_the_affine_map_normalizes_the_population(self):
    mini_batches = random(0, 5, 4, 2)
    statistics = batch_norm.population(mini_batches)
    scale, bias = np.array([1.5, 0.5]), np.array([0.2, -0.4])
    multiplier, shift = batch_norm.affine_map(statistics, scale, bias, 0.1)
    x = mini_batches[0]
    expected = scale * (x - statistics.mean) / np.sqrt(statistics.variance + 0.1) + bias
    assert_allclose(multiplier * x + shift, expected)


class TestBiasOfSection2:
  u, targets = np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 0.5])

  def test_it_grows_and_the_loss_stays_where_the_mean_is_held_fixed(self):
    result = batch_norm.learn_bias(self.u, self.targets, 0.1, 50, through_mean=False)
    assert_allclose(result.bias, 0.1 * 3.5 * np.arange(51))  # Σ ∂ℓ/∂x̂ = -Σ t at each step
    assert_allclose(result.loss, ((self.u - 2 - self.targets) ** 2).sum() / 2)

  def test_it_stays_where_the_gradient_goes_through_the_mean(self):
    result = batch_norm.learn_bias(self.u, self.targets, 0.1, 50, through_mean=True)
    assert_allclose(result.bias, 0, atol=1e-12)


class TestWhitening:
  def test_of_enough_examples_leaves_the_unit_matrix(self):
    x = random(0, 50, 4) @ random(1, 4, 4) + 3
    assert batch_norm.covariance(x).rank == 4
    whitened = batch_norm.whiten(x)
    assert_allclose(whitened.mean(0), 0, atol=1e-12)
    assert_allclose(np.cov(whitened.T, bias=True), np.eye(4), atol=1e-10)

  def test_is_by_the_symmetric_root(self):
    x = random(0, 50, 4) @ random(1, 4, 4)
    turn = np.linalg.qr(random(2, 4, 4))[0]
    assert_allclose(batch_norm.whiten(x @ turn), batch_norm.whiten(x) @ turn, atol=1e-10)

  @pytest.mark.parametrize("m", [2, 3, 6])
  def test_of_too_few_examples_has_no_root(self, m):
    few = batch_norm.covariance(random(0, m, 7))
    assert few.rank == m - 1
    assert_array_equal(np.isinf(few.inverse_roots), np.arange(7) < 7 - (m - 1))
    assert_allclose(few.inverse_roots[-1], few.eigenvalues[-1] ** -0.5)
