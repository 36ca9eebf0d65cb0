"""The parts of the explanation: all checks pass, and each finds the mistake it is there for."""

import dataclasses

import numpy as np
import pytest

from speedpaper_jax.explanations import (
  batch_norm,
  batch_norm_algorithms,
  batch_norm_identities,
  batch_norm_parts,
  batch_norm_whitening,
  inputs,
  references,
)
from speedpaper_jax.explanations.layout import display_width, render


@pytest.fixture(scope="module")
def drawn():
  return inputs.draw(4, seed=3, epsilon=1e-3)


@pytest.fixture(scope="module")
def values(drawn):
  return {"JAX": references.by_automatic_differentiation(drawn)}


def failures(part):
  return [check.name for check in part.checks if not check.passed]


@pytest.mark.parametrize("epsilon", [0, 1])
@pytest.mark.parametrize("examples", [2, 20])
def test_all_hold_at_the_ends_of_the_flags(examples, epsilon):
  drawn = inputs.draw(examples, seed=0, epsilon=epsilon)
  values = {"this package": references.by_this_package(drawn)}
  for part in batch_norm_parts.parts(drawn, values):
    assert not failures(part), part.title
    assert part.checks
    assert max(map(display_width, render(part).splitlines())) <= 100


class TestMistakesAreFound:
  @pytest.fixture
  def transform(self, monkeypatch):
    """Changes what Algorithm 1 returns."""
    correct = batch_norm.transform

    def change(function):
      def changed(x, scale, bias, epsilon):
        return function(correct, x, scale, bias, epsilon)

      monkeypatch.setattr(batch_norm, "transform", changed)

    return change

  @pytest.fixture
  def gradients(self, monkeypatch):
    """Changes what the six equations return."""
    correct = batch_norm.gradients

    def change(**factors):
      def changed(*arguments):
        result = correct(*arguments)
        changes = {name: factor * getattr(result, name) for name, factor in factors.items()}
        return dataclasses.replace(result, **changes)

      monkeypatch.setattr(batch_norm, "gradients", changed)

    return change

  def test_an_unbiased_variance_in_algorithm_1(self, drawn, values, transform):
    def unbiased(correct, x, scale, bias, epsilon):
      m = len(x)
      return correct(x, scale * np.sqrt(m / (m - 1)), bias, epsilon)

    transform(unbiased)
    assert failures(batch_norm_algorithms.algorithm_1(drawn, values)) == ["beside JAX"]

  @pytest.mark.parametrize(
    ("name", "count"),
    [
      ("d_x_hat", 1),
      ("d_variance", 1),
      ("d_mean_direct", 1),
      ("d_x_direct", 1),
      ("d_x_through_variance", 1),
      ("d_x_through_mean", 1),
      ("d_scale", 1),
      ("d_bias", 1),
    ],
  )
  def test_a_factor_in_an_equation(self, drawn, values, gradients, name, count):
    gradients(**{name: 1 + 1e-9})
    assert len(failures(batch_norm_algorithms.gradient(drawn, values))) == count

  def test_a_biased_variance_in_algorithm_2(self, drawn, monkeypatch):
    correct = batch_norm.population

    def biased(mini_batches):
      result = correct(mini_batches)
      return dataclasses.replace(result, variance=result.variances.mean(0))

    monkeypatch.setattr(batch_norm, "population", biased)
    assert failures(batch_norm_algorithms.algorithm_2(drawn)) == [
      "beside BatchNorm's statistics",
      "beside BatchNorm's in inference",
    ]

  def test_another_epsilon_in_the_variance_of_the_normalized_values(self, drawn, transform):
    transform(lambda correct, x, scale, bias, epsilon: correct(x, scale, bias, epsilon + 1e-6))
    assert failures(batch_norm_identities.identities(drawn))

  def test_statistics_that_are_not_the_batchs(self, drawn, transform):
    def fixed(correct, x, scale, bias, epsilon):
      result = correct(x, scale, bias, epsilon)
      return dataclasses.replace(result, x_hat=x, y=scale * x + bias)

    transform(fixed)
    steps = batch_norm_identities.dependence_on_the_batch(drawn)
    assert not any(check.passed for step in steps for check in step.checks)
    steps = batch_norm_identities.moments(drawn)
    assert not any(check.passed for step in steps for check in step.checks)
    steps = batch_norm_identities.recovered_input(drawn)
    assert not any(check.passed for step in steps for check in step.checks)

  def test_weights_whose_scale_matters(self, drawn, monkeypatch):
    correct = references.layer_and_jacobians

    def scaled(inputs, factor):
      return {name: factor * array for name, array in correct(inputs, 1.0).items()}

    monkeypatch.setattr(references, "layer_and_jacobians", scaled)
    steps = batch_norm_identities.scale_of_the_weights(drawn)
    assert [check.passed for step in steps for check in step.checks] == [False, False, False, True]

  def test_a_bias_that_learns(self, drawn, monkeypatch):
    correct = batch_norm.learn_bias

    def swapped(*arguments, through_mean=None):
      return correct(*arguments[:-1], not arguments[-1])

    monkeypatch.setattr(batch_norm, "learn_bias", swapped)
    steps = batch_norm_identities.growing_bias(drawn)
    assert [check.passed for step in steps for check in step.checks] == [False, True, False]

  def test_whitening_without_the_root(self, drawn, monkeypatch):
    monkeypatch.setattr(batch_norm, "whiten", lambda x: x - x.mean(0))
    assert failures(batch_norm_whitening.whitening(drawn)) == ["Cov[x̂] = the unit matrix"]
