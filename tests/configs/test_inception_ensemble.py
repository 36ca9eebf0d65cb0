"""configs/inception_ensemble.py: the four networks of Table 5."""

import functools

import pytest
from config_checks import CLASSES, check_rmsprop_recipe, check_values, epochs

from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import sweep

SMALL_DATA = sorted(CLASSES.keys() - {"imagenet2012"})


@functools.cache
def config_of(data="digits"):
  return load(f"configs/inception_ensemble.py:data={data}")


def member(name, data="digits"):
  return sweep.apply(config_of(data).base, config_of(data).members[name])


def test_digits_are_the_default():
  assert load("configs/inception_ensemble.py") == config_of("digits")


def test_one_inception_v4_and_three_inception_resnet_v2_that_differ_in_their_seeds():
  found = [member(name) for name in config_of().members]
  assert sorted(each.model.name for each in found) == ["inception_resnet_v2"] * 3 + ["inception_v4"]
  assert len({(each.model.name, each.seed) for each in found}) == 4
  assert len({(each.model.name, each.duration) for each in found}) == 2
  for each in found:
    each.seed, each.model.name = 0, "inception_v4"
    each.duration = config_of().base.duration
    each.optimizer.schedule.interval = config_of().base.optimizer.schedule.interval
    assert each == config_of().base


@pytest.mark.parametrize("data", CLASSES)
def test_every_member_builds(data):
  for name in config_of(data).members:
    check_values(member(name, data), data)


@pytest.mark.parametrize(
  ("name", "config"),
  [("inception_v4", "inception_v4"), ("inception_resnet_v2_1", "inception_resnet_v2")],
)
def test_on_imagenet_each_is_that_of_its_own_config(name, config):
  run, own = member(name, "imagenet2012"), load(f"configs/{config}.py:data=imagenet2012")
  check_rmsprop_recipe(run)
  run.seed, run.keep_best = own.seed, own.keep_best
  assert run == own


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2_1"])
@pytest.mark.parametrize("data", SMALL_DATA)
def test_runs_go_through_the_same_rates_in_their_own_time(data, name):
  run = member(name, data)
  assert epochs(run.duration) / epochs(run.optimizer.schedule.interval) == pytest.approx(
    80, rel=1e-4
  )
  assert (run.data.image_size, run.model.width) == (75, 0.25)


@pytest.mark.parametrize("data", SMALL_DATA)
def test_inception_v4_is_trained_twice_as_long(data):
  lengths = [
    epochs(member(name, data).duration) for name in ("inception_v4", "inception_resnet_v2_1")
  ]
  assert lengths[0] == pytest.approx(2 * lengths[1])
