"""configs/residual_speedup.py: four networks with one recipe."""

import functools

import pytest
from config_checks import CLASSES, check_rmsprop_recipe, check_shapes, check_values, epochs

from speedpaper_jax.config.files import load
from speedpaper_jax.experiments import arms, sweep

NETWORKS = ("inception_v3", "inception_resnet_v1", "inception_v4", "inception_resnet_v2")


@functools.cache
def config_of(data="digits"):
  return load(f"configs/residual_speedup.py:data={data}")


def run_config(arm, data="digits", factor=1.0, seed=0):
  return arms.run_config(config_of(data), arm, factor, seed)


def test_digits_are_the_default():
  assert load("configs/residual_speedup.py") == config_of("digits")


@pytest.mark.parametrize("data", CLASSES)
@pytest.mark.parametrize("arm", NETWORKS)
def test_every_run_builds(arm, data):
  for factor in config_of(data).rate_factors:
    check_values(run_config(arm, data, factor), data)


def test_networks_take_the_images():
  check_shapes(run_config("inception_resnet_v1"), "digits")


@pytest.mark.parametrize("data", [data for data in CLASSES if data != "imagenet2012"])
def test_the_networks_have_one_recipe_and_differ_in_themselves_alone(data):
  config = config_of(data)
  assert set(config.arms) == {*NETWORKS}
  for arm in NETWORKS:
    changed = sweep.changes(config.base, run_config(arm, data)).to_dict()
    assert changed.keys() <= {"model"}
    assert changed.get("model", {}).keys() <= {"name", "dialect"}
    assert run_config(arm, data).model.name == arm


def test_every_network_has_the_same_search_and_three_seeds():
  config = config_of()
  assert config.rate_factors == pytest.approx((1 / 3, 1, 3))
  assert config.seeds == (0, 1, 2)
  assert config.base.model.width == 0.25
  assert config.base.data.image_size == 75


class TestImagenet:
  @pytest.mark.parametrize("arm", NETWORKS)
  def test_the_recipe_is_the_paper_s(self, arm):
    config = run_config(arm, "imagenet2012")
    check_rmsprop_recipe(config)
    assert config.model.width == 1
    other = load(f"configs/{arm}.py:data=imagenet2012")
    # Without the auxiliary head and the clipping that Inception-v3's own paper adds.
    for field in ("optimizer", "batch_norm", "data", "label_smoothing", "average_decay"):
      if not (field == "optimizer" and arm == "inception_v3"):
        assert config[field] == other[field]
    assert not config.model.aux_heads

  def test_runs_are_as_long_as_the_figures_curves(self):
    lengths = {arm: epochs(run_config(arm, "imagenet2012").duration) for arm in NETWORKS}
    assert lengths == dict(zip(NETWORKS, (200, 200, 160, 160), strict=True))

  @pytest.mark.parametrize("arm", NETWORKS)
  def test_the_paper_s_curve_is_beside_each_run(self, arm):
    assert run_config(arm, "imagenet2012").expected_curve == f"paper/{arm}"

  def test_one_run_of_each_network(self):
    config = config_of("imagenet2012")
    assert (config.rate_factors, config.seeds) == ((1.0,), (0,))
