"""configs/transfer.py: a source network, and four ways to train on few other images."""

import functools

import pytest
from config_checks import CLASSES, check_shapes, check_values

from speedpaper_jax.config.files import load
from speedpaper_jax.errors import UserError
from speedpaper_jax.experiments import arms
from speedpaper_jax.models import layer_names

ARMS = {"scratch", "free", "half_frozen", "frozen"}
SMALL_DATA = sorted(CLASSES.keys() - {"imagenet2012"})


@functools.cache
def config_of(source="mnist", target="digits"):
  return load(f"configs/transfer.py:source={source},target={target}")


def run_config(arm, target="digits", factor=1.0):
  return arms.run_config(config_of(target=target), arm, factor, 0)


def test_from_mnist_to_digits_is_the_default():
  assert load("configs/transfer.py") == config_of("mnist", "digits")
  assert set(config_of().arms) == ARMS
  assert config_of().seeds == (0,)


@pytest.mark.parametrize("data", SMALL_DATA)
def test_every_run_builds(data):
  check_values(config_of(source=data).source, data)
  for arm in ARMS:
    check_values(run_config(arm, data), data)


def test_networks_take_the_images():
  check_shapes(config_of().source, "mnist")
  check_shapes(run_config("half_frozen"), "digits")


def test_other_data_are_refused():
  with pytest.raises(UserError, match=r"has no source 'imagenet2012'"):
    config_of(source="imagenet2012")


@pytest.mark.parametrize("source", SMALL_DATA)
@pytest.mark.parametrize("target", SMALL_DATA)
def test_source_and_target_have_one_size_and_one_network(source, target):
  config = config_of(source, target)
  assert config.source.data.image_size == config.base.data.image_size
  assert config.source.model == config.base.model
  assert (config.source.data.name, config.base.data.name) == (source, target)


@pytest.mark.parametrize("data", SMALL_DATA)
def test_a_target_has_few_images_and_a_source_all(data):
  assert config_of(source=data).source.data.train_split == "train"
  assert config_of(target=data).base.data.train_split.startswith("train[:")


def test_a_folder_as_target_is_judged_by_more_than_its_tenth_and_by_no_image_of_training():
  data = config_of(target="folder").base.data
  assert (data.train_split, data.eval_split) == ("train[:20%]", "train[70%:]")


class TestArms:
  def test_where_they_start(self):
    starts = {arm: run_config(arm).init_from for arm in ARMS}
    assert starts == {**dict.fromkeys(ARMS, "source"), "scratch": ""}

  def test_they_differ_in_first_weights_frozen_layers_and_rate_alone(self):
    for arm in ARMS:
      run = run_config(arm)
      run.init_from = run.freeze = ""
      run.optimizer.learning_rate = config_of().base.optimizer.learning_rate
      assert run == config_of().base

  def test_all_have_the_same_search_about_their_own_rate(self):
    assert config_of().rate_factors == pytest.approx((1 / 3, 1, 3))
    rates = {arm: run_config(arm).optimizer.learning_rate for arm in ARMS}
    assert rates.pop("frozen") == pytest.approx(6 * rates["scratch"])
    assert len(set(rates.values())) == 1

  def test_the_lower_half_is_the_stem_and_the_modules_on_its_maps(self):
    patterns = layer_names.read_patterns(run_config("half_frozen").freeze)
    layers = check_shapes(run_config("scratch"), "digits").params
    frozen = {layer for layer in layers if layer_names.is_chosen([layer], patterns)}
    stem = {"conv1", "conv2_reduce", "conv2"}
    assert frozen == stem | {f"inception_{module}" for module in ("3a", "3b", "3c")}

  def test_the_trunk_is_all_but_the_softmax_layer(self):
    assert run_config("frozen").freeze == layer_names.TRUNK
