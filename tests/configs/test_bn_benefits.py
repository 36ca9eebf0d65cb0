"""One factor at a time: everything else is equal."""

import pytest
from config_checks import CLASSES, check_values

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms

BENEFITS = ("lr", "init", "dropout", "l2", "lrn", "batch_size")


def config_of(benefit, data="digits"):
  return load(f"configs/bn_benefits.py:benefit={benefit},data={data}")


def run_of(config, arm):
  return arms.run_config(config, arm, config.rate_factors[0], 0)


@pytest.mark.parametrize("benefit", BENEFITS)
def test_the_networks_of_one_value_differ_in_batch_normalization_alone(benefit):
  config = config_of(benefit)
  for arm in config.arms:
    network, _, value = arm.partition("-")
    other = run_of(config, f"{'with' if network == 'without' else 'without'}-{value}")
    other.batch_norm.enabled = not other.batch_norm.enabled
    assert run_of(config, arm) == other


@pytest.mark.parametrize("benefit", BENEFITS)
def test_all_arms_have_the_same_search(benefit):
  config = config_of(benefit)
  assert config.rate_factors == ((1.0,) if benefit == "lr" else (1.0, 5.0))
  assert len(config.arms) == 2 * len(config.factor_values)
  assert len(config.seeds) == 3


@pytest.mark.parametrize("benefit", BENEFITS)
@pytest.mark.parametrize("data", sorted(CLASSES.keys() - {"imagenet2012"}))
def test_values(benefit, data):
  config = config_of(benefit, data)
  for arm in config.arms:
    check_values(run_of(config, arm), data)


@pytest.mark.parametrize(
  ("benefit", "field", "values"),
  [
    ("init", lambda run: run.model.initial_scale, {0.1, 1, 10}),
    ("dropout", lambda run: run.model.dropout_rate, {0.0, 0.4}),
    ("l2", lambda run: run.optimizer.l2, {0.0, 2e-4}),
    ("lrn", lambda run: run.model.local_response_norm, {False, True}),
    ("batch_size", lambda run: run.batch_size, {2, 8, 32, 256}),
    ("lr", lambda run: round(run.optimizer.learning_rate / 0.0015), {1, 3, 10, 30, 100}),
  ],
)
def test_the_factor_takes_its_values(benefit, field, values):
  config = config_of(benefit)
  assert {field(run_of(config, arm)) for arm in config.arms} == values


def test_the_rate_does_not_grow_with_the_batch():
  config = config_of("batch_size")
  for arm in config.arms:
    run = run_of(config, arm)
    assert run.optimizer.base_batch_size == run.batch_size


def test_a_misspelt_benefit():
  with pytest.raises(UserError, match=r"has no benefit 'init_scale'"):
    config_of("init_scale")
