"""configs/inception_v3.py: section 8 of Rethinking the Inception Architecture."""

import pytest
from config_checks import check_rmsprop_recipe, epochs

from speedpaper_jax.config.files import load


@pytest.fixture
def config():
  return load("configs/inception_v3.py:data=imagenet2012")


def test_the_optimizer(config):
  check_rmsprop_recipe(config)


def test_label_smoothing_and_clipping(config):
  assert config.label_smoothing == 0.1
  assert config.optimizer.clip_norm == 2.0


def test_the_auxiliary_head_weighs_four_tenths(config):
  assert config.model.aux_heads
  assert config.aux_weight == 0.4


def test_100_epochs(config):
  assert epochs(config.duration) == 100
