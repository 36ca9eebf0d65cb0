"""configs/googlenet.py: sections 5 and 6 of Going Deeper with Convolutions."""

import pytest
from config_checks import epochs

from speedpaper_jax.config.files import load


@pytest.fixture
def config():
  return load("configs/googlenet.py:data=imagenet2012")


def test_the_network(config):
  assert config.model.dialect == "paper"
  assert not config.batch_norm.enabled
  assert config.model.dropout_rate == 0.4
  assert config.data.image_size == 224


def test_auxiliary_heads_weigh_three_tenths(config):
  assert config.model.aux_heads
  assert config.aux_weight == 0.3


def test_the_rate_falls_by_4_percent_every_8_epochs(config):
  assert (config.optimizer.name, config.optimizer.sgd.momentum) == ("sgd", 0.9)
  schedule = config.optimizer.schedule
  assert (schedule.name, schedule.factor, schedule.staircase) == ("exponential", 0.96, True)
  assert epochs(schedule.interval) == 8


def test_averaged_parameters_are_evaluated(config):
  assert config.average_decay > 0.99


def test_patches_of_8_to_100_percent_and_photometric_distortion(config):
  assert config.data.augmentation.crop == "area"
  assert config.data.augmentation.area_range == (0.08, 1.0)
  assert config.data.augmentation.photometric == 1.0


def test_what_the_paper_leaves_open_is_the_batch_normalization_papers(config):
  other = load("configs/bn_inception.py:variant=inception,data=imagenet2012")
  assert config.batch_size == other.batch_size
  assert config.duration == other.duration
  for field in ("learning_rate", "base_batch_size", "l2"):
    assert config.optimizer[field] == other.optimizer[field]
