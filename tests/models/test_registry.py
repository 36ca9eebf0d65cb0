"""Networks by name, and what a misspelt one is told."""

import numpy as np
import pytest

from speedpaper_jax.errors import UserError
from speedpaper_jax.models import registry
from speedpaper_jax.models.bn_inception import DIALECTS, BNInception
from speedpaper_jax.models.layers import LayerSettings


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_name_gives_a_network_with_the_given_fields(name):
  assert registry.create(name, num_classes=7).num_classes == 7


def test_the_dialect_selects_from_the_models_own():
  model = registry.create("bn_inception", dialect="paper", dropout_rate=0.4)
  assert model == BNInception(dialect=DIALECTS["paper"], dropout_rate=0.4)


def test_an_unknown_name_is_told_the_nearest():
  with pytest.raises(UserError, match=r"no model 'bn_incepton'\. Did you mean 'bn_inception'"):
    registry.create("bn_incepton")


def test_an_unknown_dialect_is_told_the_nearest():
  with pytest.raises(UserError, match=r"no dialect 'papers'\. Did you mean 'paper'"):
    registry.create("bn_inception", dialect="papers")


@pytest.mark.parametrize("num_classes", [-1, -1000, 2.5, 10.0, "10", None])
def test_a_number_of_classes_that_is_none_is_refused(num_classes):
  with pytest.raises(UserError, match=r"num_classes is .*; give a whole number from 0"):
    registry.create("googlenet", num_classes=num_classes)


def test_a_number_of_classes_may_be_numpy_s():
  assert registry.create("googlenet", num_classes=np.int64(7)).num_classes == 7


def test_channels_are_the_settings():
  in_short = registry.create("bn_inception", channels=4)
  assert in_short.settings.channels == 4
  settings = LayerSettings(DIALECTS["paper"].batch_norm, channels=4)
  assert registry.create("bn_inception", settings=settings) == in_short


def test_the_width_is_the_settings():
  in_short = registry.create("bn_inception", width=0.25)
  assert in_short.settings.width == 0.25
  settings = LayerSettings(DIALECTS["paper"].batch_norm, width=0.25)
  assert registry.create("bn_inception", settings=settings) == in_short


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_width_that_is_none_is_refused(width):
  with pytest.raises(UserError, match=r"width is .*; give a number above 0, where"):
    registry.create("googlenet", width=width)


@pytest.mark.parametrize("channels", [0, -1, 1.0, "3", None])
def test_a_number_of_channels_that_is_none_is_refused(channels):
  with pytest.raises(UserError, match=r"channels is .*; give a whole number from 1\."):
    registry.create("googlenet", channels=channels)
  with pytest.raises(UserError, match=r"channels is .*; give a whole number from 1\."):
    registry.create("googlenet", settings=LayerSettings(channels=channels))
