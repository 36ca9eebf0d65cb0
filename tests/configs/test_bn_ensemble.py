"""configs/bn_ensemble.py: six networks of section 4.2.3."""

import functools

import pytest
from config_checks import CLASSES, check_shapes, check_values

from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import sweep

SMALL_DATA = sorted(CLASSES.keys() - {"imagenet2012"})


@functools.cache
def config_of(data="digits"):
  return load(f"configs/bn_ensemble.py:data={data}")


def member(name, data="digits"):
  return sweep.apply(config_of(data).base, config_of(data).members[name])


def test_digits_are_the_default():
  assert load("configs/bn_ensemble.py") == config_of("digits")


def test_there_are_six_of_as_many_seeds():
  names = list(config_of().members)
  assert len(names) == 6
  assert sorted(member(name).seed for name in names) == list(range(6))


@pytest.mark.parametrize("data", CLASSES)
def test_every_member_builds(data):
  for name in config_of(data).members:
    check_values(member(name, data), data)


def test_last_hidden_layers_are_per_activation_on_maps_of_several_positions():
  shapes = check_shapes(member("per_activation"), "digits").params
  of_a_layer = shapes["inception_5b"]["conv_1x1"]["batch_norm"]["scale"].shape
  assert of_a_layer == (2, 2, 352)
  assert shapes["inception_4e"]["conv_3x3"]["batch_norm"]["scale"].shape == (192,)


@pytest.mark.parametrize("data", ["digits", "imagenet2012"])
def test_each_is_a_bn_x30_with_modifications_of_section_4_2_3(data):
  paper = load(f"configs/bn_inception.py:variant=bn_x30,data={data}")
  found = set()
  for name in config_of(data).members:
    run = member(name, data)
    assert run.optimizer.learning_rate == 0.045
    modifications = {
      "scale": run.model.initial_scale,
      "dropout": run.model.dropout_rate,
      "per_activation": run.batch_norm.per_activation,
    }
    found.add(tuple(modifications.values()))
    run.model.update(initial_scale=1.0, dropout_rate=0.0)
    run.batch_norm.per_activation = ""
    for field in ("inference", "population_batches"):
      run.batch_norm[field] = paper.batch_norm[field]
    assert (run.model, run.batch_norm) == (paper.model, paper.batch_norm)
    for field in ("learning_rate", "sgd", "l2", "name"):
      assert run.optimizer[field] == paper.optimizer[field]
  assert len(found) == 6
  assert {dropout for _, dropout, _ in found} == {0.0, 0.05, 0.1}
  assert {scale for scale, _, _ in found} == {1.0, 2.0}


def test_on_imagenet_the_recipe_is_the_papers_whole():
  paper = load("configs/bn_inception.py:variant=bn_x30,data=imagenet2012")
  run = config_of("imagenet2012").base
  run.keep_best = paper.keep_best
  assert run == paper


@pytest.mark.parametrize("data", SMALL_DATA)
def test_runs_go_through_the_same_rates_in_their_own_time(data):
  base = config_of(data).base
  lengths = [float(text.split()[0]) for text in (base.duration, base.optimizer.schedule.interval)]
  assert lengths[0] / lengths[1] == pytest.approx(150 * 6 / 8, rel=1e-4)
