"""configs/bn_variants.py: five networks and two controls, each a change of the first."""

import functools
import itertools

import pytest
from config_checks import CLASSES, check_shapes, check_values, epochs

from speedpaper_jax.config.durations import Durations
from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import arms, sweep

PAPER = ("inception", "bn_baseline", "bn_x5", "bn_x30", "bn_x5_sigmoid")
CONTROLS = ("inception_x5", "inception_sigmoid")


@functools.cache
def config_of(data="digits"):
  return load(f"configs/bn_variants.py:data={data}")


def run_config(arm, data="digits", factor=1.0, seed=0):
  return arms.run_config(config_of(data), arm, factor, seed)


def test_the_arms():
  config = config_of()
  assert set(config.arms) == {*PAPER, *CONTROLS}
  assert config.baseline == "inception"


def test_digits_are_the_default():
  assert load("configs/bn_variants.py") == config_of("digits")


@pytest.mark.parametrize("data", CLASSES)
@pytest.mark.parametrize("arm", [*PAPER, *CONTROLS])
def test_every_run_builds(arm, data):
  for factor in config_of(data).rate_factors:
    check_values(run_config(arm, data, factor), data)


@pytest.mark.parametrize("arm", [*PAPER, *CONTROLS])
def test_networks_take_the_images(arm):
  check_shapes(run_config(arm), "digits")


class TestArms:
  @pytest.mark.parametrize("data", ["digits", "imagenet2012", "folder"])
  @pytest.mark.parametrize("variant", PAPER)
  def test_the_paper_s_are_those_of_configs_bn_inception(self, variant, data):
    """They may differ in length, intervals, evaluation's statistics and size of the images."""
    ours = run_config(variant, data)
    other = load(f"configs/bn_inception.py:variant={variant},data={data}")
    for field in ("inference", "population_batches"):
      other.batch_norm[field] = ours.batch_norm[field]
    assert (ours.model, ours.batch_norm) == (other.model, other.batch_norm)
    for field in ("learning_rate", "sgd", "l2", "name"):
      assert ours.optimizer[field] == other.optimizer[field]
    assert ours.batch_size == other.batch_size

  @pytest.mark.parametrize("data", ["digits", "mnist", "folder"])
  @pytest.mark.parametrize("variant", PAPER)
  def test_they_go_through_the_same_rates_in_their_own_time(self, variant, data):
    def intervals(config):
      return epochs(config.duration) / epochs(config.optimizer.schedule.interval)

    other = load(f"configs/bn_inception.py:variant={variant},data={data}")
    assert intervals(run_config(variant, data)) == pytest.approx(intervals(other), rel=1e-4)

  @pytest.mark.parametrize(
    ("control", "changed"),
    [
      ("inception_x5", {"optimizer": {"learning_rate": 0.0075}}),
      ("inception_sigmoid", {"model": {"activation": "sigmoid"}}),
    ],
  )
  def test_a_control_differs_from_the_baseline_in_one_field(self, control, changed):
    assert config_of().arms[control].to_dict() == changed

  def test_the_baseline_is_the_base(self):
    assert not config_of().arms.inception
    assert run_config("inception") == config_of().base


class TestComparison:
  def test_every_arm_is_searched_about_its_own_rate(self):
    factors = config_of().rate_factors
    assert factors == pytest.approx((1 / 3, 1, 3))
    for arm, factor in itertools.product(config_of().arms, factors):
      rate = run_config(arm, factor=factor).optimizer.learning_rate
      assert rate == pytest.approx(factor * run_config(arm).optimizer.learning_rate)

  @pytest.mark.parametrize("data", [data for data in CLASSES if data != "imagenet2012"])
  def test_every_arm_is_as_long_and_as_often_evaluated(self, data):
    for arm in config_of(data).arms:
      config = run_config(arm, data)
      durations = Durations(config.batch_size, 50_000)
      assert config.duration == config_of(data).base.duration
      assert durations.steps(config.duration, "") == pytest.approx(
        (10 if data == "digits" else 20) * durations.steps(config.eval_every, ""), rel=1e-4
      )

  def test_short_runs_are_evaluated_with_population_statistics(self):
    """Moving averages are far behind after a few dozen steps."""
    assert config_of("digits").base.batch_norm.inference == "population"
    assert config_of("imagenet2012").base.batch_norm.inference == "moving_average"

  @pytest.mark.parametrize("data", CLASSES)
  @pytest.mark.parametrize("arm", [*PAPER, *CONTROLS])
  def test_a_run_is_the_base_with_its_changes(self, arm, data):
    config = config_of(data)
    run = sweep.apply(config.base, config.arms[arm])
    assert sweep.apply(config.base, sweep.changes(config.base, run)) == run
    assert sweep.changes(config.base, run) == config.arms[arm]
