"""configs/inception_resnet_v1.py: section 4 of the Inception-v4 paper."""

import pytest
from config_checks import check_rmsprop_recipe, epochs

from speedpaper_jax.config.files import load


@pytest.fixture
def config():
  return load("configs/inception_resnet_v1.py:data=imagenet2012")


def test_the_optimizer(config):
  check_rmsprop_recipe(config)


def test_label_smoothing_alone_as_for_inception_v3(config):
  assert config.label_smoothing == 0.1
  assert not config.model.aux_heads
  assert config.aux_weight == config.optimizer.clip_norm == 0


def test_the_residual_scales_are_the_dialects(config):
  assert config.model.residual_scales == ()


def test_200_epochs(config):
  assert epochs(config.duration) == 200
