"""configs/small_inception.py: four networks, with and without batch normalization and decay."""

import functools

import pytest
from config_checks import check_shapes, check_values, epochs

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms
from speedpaper_jax.papers import small_inception as paper
from speedpaper_jax.steps import build

DATA = ("digits", "mnist", "fashion_mnist", "cifar10")
EACH_DATA = pytest.mark.parametrize("data", DATA)
# Arm → whether it has batch normalization, and weight decay.
ARMS = {
  "batch_norm_and_decay": (True, True),
  "batch_norm": (True, False),
  "decay": (False, True),
  "neither": (False, False),
}


@functools.cache
def config_of(data="digits"):
  return load(f"configs/small_inception.py:data={data}")


def run_config(arm, data="digits", factor=1.0):
  return arms.run_config(config_of(data), arm, factor, 0)


def test_the_arms_are_the_papers_rows():
  config = config_of()
  assert set(config.arms) == set(ARMS) == set(paper.TABLE_1)
  assert config.seeds == (0,)


@EACH_DATA
def test_the_rate_is_the_papers(data):
  assert config_of(data).rate_factors == (1.0,)
  assert config_of(data).base.optimizer.learning_rate == 0.1


def test_digits_are_the_default():
  assert load("configs/small_inception.py") == config_of("digits")


def test_other_data_are_refused():
  with pytest.raises(UserError, match=r"has no data 'imagenet2012'"):
    config_of("imagenet2012")


@EACH_DATA
@pytest.mark.parametrize("arm", ARMS)
def test_every_run_builds(arm, data):
  run = run_config(arm, data)
  check_values(run, data)
  assert epochs(run.checkpoint_every) > 0


@pytest.mark.parametrize("arm", ["batch_norm", "neither"])
def test_networks_take_the_images(arm):
  check_shapes(run_config(arm), "digits")


@EACH_DATA
@pytest.mark.parametrize("arm", ARMS)
def test_arms_differ_in_batch_normalization_and_weight_decay_alone(arm, data):
  run = run_config(arm, data)
  assert (run.batch_norm.enabled, run.optimizer.l2 > 0) == ARMS[arm]
  run.batch_norm.enabled, run.optimizer.l2 = True, config_of(data).base.optimizer.l2
  assert run == config_of(data).base


def test_the_papers_recipe_on_cifar10():
  """Its appendix, but for what the config's docstring calls ours."""
  config = config_of("cifar10").base
  assert (config.model.name, config.model.dialect) == ("small_inception", "paper")
  assert (config.data.image_size, config.data.eval_central_fraction) == (28, 28 / 32)
  assert config.data.per_image_whitening
  augmentation = build.build_augmentation(config)
  assert (augmentation.crop, augmentation.crop_fraction) == ("central", 28 / 32)
  assert not augmentation.flip
  optimizer = config.optimizer
  assert (optimizer.name, optimizer.sgd.momentum) == ("sgd", 0.9)
  assert (optimizer.learning_rate, config.batch_size, optimizer.base_batch_size) == (0.1, 128, 128)
  schedule = optimizer.schedule
  assert (schedule.name, schedule.factor, schedule.staircase) == ("exponential", 0.95, True)
  assert epochs(schedule.interval) == 1
  assert (config.data.train_split, config.data.eval_split) == ("train", "test")


@EACH_DATA
def test_shorter_runs_go_through_the_same_rates(data):
  config = config_of(data).base
  assert epochs(config.duration) == pytest.approx(100 * epochs(config.optimizer.schedule.interval))


@EACH_DATA
def test_the_rate_is_that_of_a_batch_of_128(data):
  config = config_of(data).base
  assert config.optimizer.base_batch_size == config.decay_batch_size == 128
  assert config.batch_size == (128 if data == "cifar10" else 32)


@EACH_DATA
def test_small_images_are_not_enlarged(data):
  size = {"digits": 8, "mnist": 28, "fashion_mnist": 28, "cifar10": 28}[data]
  assert config_of(data).base.data.image_size == size


@EACH_DATA
def test_accuracy_on_training_images_is_measured(data):
  assert config_of(data).base.evaluate_training_images


def test_short_runs_are_evaluated_with_population_statistics():
  """Moving averages are far behind after a few dozen steps."""
  assert config_of("digits").base.batch_norm.inference == "population"
  assert config_of("cifar10").base.batch_norm.inference == "moving_average"
